//! The databases of the tests: SQLite in the test's folder, or a schema of its own in the PostgreSQL that `HUFU_TEST_POSTGRES` names.
//! `scripts/with-postgres` starts such a server; the same tests run on both.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Connection;

use super::parties::Folder;
use crate::store::{Create, Place, Store, place::Server};

/// File in a test's folder that says where its database is, where it is not in the folder.
pub(crate) const URL: &str = "database.url";

/// The server that the tests shall use, if any.
pub(crate) fn server() -> Option<String> {
    std::env::var("HUFU_TEST_POSTGRES").ok()
}

/// A database of this test's own.
pub(crate) async fn store(folder: &Folder) -> Store {
    let Some(url) = server() else {
        return Store::open(folder.path(), Create::IfMissing).await.expect("a database");
    };
    let url = schema(&url).await;
    std::fs::write(folder.path().join(URL), &url).expect("a file");
    Place::Server(Server::of(&url).expect("a URL")).open(Create::IfMissing).await.expect("a database")
}

/// The same database once more, as another process opens it.
pub(crate) async fn again(folder: &Folder) -> Store {
    let url = std::fs::read_to_string(folder.path().join(URL)).expect("where the database is");
    Place::Server(Server::of(&url).expect("a URL")).open(Create::Never).await.expect("a database")
}

/// The URL of a new schema.
pub(crate) async fn schema(url: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    sqlx::any::install_default_drivers();
    let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut db = sqlx::AnyConnection::connect(url).await.expect("the server of HUFU_TEST_POSTGRES");
    let create = sqlx::AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}"));
    sqlx::raw_sql(create).execute(&mut db).await.expect("a schema");
    db.close().await.expect("the end of a connection");
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}options[search_path]={name}")
}
