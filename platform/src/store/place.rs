//! Where the database is: in the platform's directory, or at a PostgreSQL server that a URL names. The URL may hold a password: it is
//! shown and logged without one.

use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};
use sqlx::any::AnyConnectOptions;

use super::{Create, FILE, Store};
use crate::{error::Error, text::Text};

/// Variable of the environment that may hold the URL.
pub(crate) const VARIABLE: &str = "HUFU_DATABASE_URL";
/// No file with a URL is longer, bytes.
const URL_BYTES_MAX: u64 = 4096;

/// A PostgreSQL server and its database.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    url: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.shown()).finish()
    }
}

impl Server {
    /// The server of a URL `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`; `None` when it is none. A directory of sockets is
    /// `postgresql:///DATABASE?host=/run/postgresql`.
    pub(crate) fn of(url: &str) -> Option<Self> {
        let is_postgres = url.starts_with("postgresql://") || url.starts_with("postgres://");
        let server = Self { url: url.to_owned() };
        (is_postgres && server.options().is_ok()).then_some(server)
    }

    /// How to connect.
    ///
    /// # Errors
    /// [`Error::Sql`] for a URL that is none.
    pub(super) fn options(&self) -> Result<AnyConnectOptions, Error> {
        Ok(self.url.parse::<AnyConnectOptions>()?)
    }

    /// Host and database, without user, password and options.
    pub(crate) fn shown(&self) -> String {
        let Ok(mut url) = self.url.parse::<AnyConnectOptions>().map(|options| options.database_url) else {
            return "postgresql:".to_owned();
        };
        let host = url.query_pairs().find(|(name, _)| name == "host").map(|(_, value)| value.into_owned());
        url.set_query(None);
        // A URL without a host has no user either.
        url.set_password(None).and_then(|()| url.set_username("")).ok();
        let shown = url.to_string();
        host.map_or_else(|| shown.clone(), |host| format!("{shown} at {host}"))
    }
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// SQLite, in this directory.
    Dir(PathBuf),
    /// PostgreSQL.
    Server(Server),
}

impl Place {
    /// What the command line, a file or the environment name, in this order; the directory without any.
    ///
    /// # Errors
    /// 74 for a file that cannot be read, 78 for a URL that is none.
    pub(crate) fn of(
        dir: &Path,
        (flag, file): (Option<&str>, Option<&Path>),
        variable: Option<&str>,
    ) -> Result<Self, Failure<Text>> {
        let (from, url) = match (flag, file, variable) {
            (Some(url), ..) => ("--database".to_owned(), url.to_owned()),
            (None, Some(file), _) => (file.display().to_string(), read(file)?),
            (None, None, Some(url)) => (VARIABLE.to_owned(), url.to_owned()),
            (None, None, None) => return Ok(Place::Dir(dir.to_owned())),
        };
        let why = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE expected";
        let server = Server::of(url.trim())
            .ok_or_else(|| Failure::new(Exit::Config, Text::ConfigWrong { path: from, why: why.to_owned() }))?;
        Ok(Place::Server(server))
    }

    /// Opens the database.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Migrate`].
    pub(crate) async fn open(&self, create: Create) -> Result<Store, Error> {
        match self {
            Place::Dir(dir) => Store::open(dir, create).await,
            Place::Server(server) => Store::connect(server).await,
        }
    }

    /// For messages and `platform.json`; never a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Place::Dir(dir) => dir.join(FILE).display().to_string(),
            Place::Server(server) => server.shown(),
        }
    }

    /// A database that cannot be used, or does not read back.
    pub(crate) fn failed(&self, error: &Error) -> Failure<Text> {
        Failure::new(Exit::Io, Text::Database { path: self.shown(), why: error.to_string() })
    }
}

fn read(path: &Path) -> Result<String, Failure<Text>> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map(|file| file.take(URL_BYTES_MAX));
    file.and_then(|mut file| file.read_to_string(&mut text)).map_err(|error| {
        let (path, why) = (path.display().to_string(), error.to_string());
        Failure::new(Exit::Io, Text::FileUnreadable { path, why })
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgresql://hufu:secret@db.example.org:5432/hufu", "postgresql://db.example.org:5432/hufu"),
            ("postgres://hufu:secret@db/hufu?options=secret", "postgres://db/hufu"),
            ("postgresql:///hufu?host=/run/postgresql&password=secret", "postgresql:///hufu at /run/postgresql"),
        ] {
            let server = Server::of(url).expect("a server");
            assert_eq!(server.shown(), shown);
            assert!(!format!("{server:?}").contains("secret"));
        }
        for url in ["", "mysql://a/b", "sqlite:x", "/var/lib/x", "postgresql://[/x"] {
            assert_eq!(Server::of(url), None, "{url}");
        }
    }

    #[test]
    fn the_nearest_place_counts() {
        let (dir, url) = (Path::new("d"), "postgresql://a/b");
        assert_eq!(Place::of(dir, (None, None), None).expect("a place"), Place::Dir(dir.to_owned()));
        let named = Place::Server(Server::of(url).expect("a server"));
        assert_eq!(Place::of(dir, (Some(url), None), Some("nonsense")).expect("a place"), named);
        assert_eq!(Place::of(dir, (None, None), Some(url)).expect("a place"), named);
        let wrong = Place::of(dir, (None, None), Some("secret")).expect_err("no URL");
        assert!(wrong.exit as u8 == 78 && !format!("{:?}", wrong.text).contains("secret"));
        assert_eq!(Place::of(dir, (None, Some(Path::new("/missing"))), None).expect_err("no file").exit as u8, 74);
    }
}
