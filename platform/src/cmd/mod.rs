//! The operator's commands over the platform's database, which `serve` may be using meanwhile.

pub(crate) mod account;
pub(crate) mod bills;
pub(crate) mod delist;
#[cfg(test)]
mod disputes;
#[cfg(test)]
mod focus_tests;
pub(crate) mod invoice;
mod lists;
pub(crate) mod manual;
pub(crate) mod notice;
pub(crate) mod operations;
mod pack;
pub(crate) mod parents;
pub(crate) mod pay;
pub(crate) mod pay_parent;
pub(crate) mod reconcile;
pub(crate) mod refund;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use sqlx::AnyConnection;

use crate::{
    account as operations_of,
    cli::{Context, bug},
    clock,
    error::Error,
    store::{Create, FILE, Place, Store, place::VARIABLE},
    text::Text,
};

/// What a command returns: the exit status, or the status with the line for stderr.
pub(crate) type Outcome = Result<Exit, Failure<Text>>;

/// The commands that look into the database.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes
    Nodes(DirArgs),
    /// List what the nodes sell
    Products(DirArgs),
    /// List the shops of the nodes
    Shops(DirArgs),
    /// Take a product of a node, or its whole shop, off sale
    Delist(delist::DelistArgs),
    /// Put it on sale again
    Relist(delist::Which),
    /// List what is taken off sale
    Delistings(DirArgs),
    /// List proofs against nodes that showed two pasts of a log
    Forks(DirArgs),
    /// Make or change a user's account; serve signs it and tells the nodes
    Account(account::Args),
    /// List the users' accounts
    Accounts(DirArgs),
    /// List what users did here, newest first, or check the chain of it
    Operations(operations::Args),
    /// List the contracts
    Orders(DirArgs),
    /// List the bills and their payments, or write them as FOCUS
    Bills(bills::Args),
    /// List what each contract used
    Usage(DirArgs),
    /// List the platform's notices and their answers
    Notices(DirArgs),
    /// List what somebody must look at
    Alarms(DirArgs),
    /// List the parent orders, their children and what is open
    Parents(DirArgs),
    /// Record that a bill was paid, or with a parent order all its children
    Pay(pay::Args),
    /// Record that what was paid above a corrected bill went back
    Refund(refund::Args),
    /// Record what is done about a bill's invoice
    Invoice(invoice::Args),
    /// List what was done about invoices
    Invoices(DirArgs),
    /// Move a contract in the platform's name
    Notice(notice::Args),
    /// Compare the books of this platform with those of a node over a period
    Reconcile(Box<reconcile::Args>),
    /// Write the evidence pack of a bill
    Pack(pack::Args),
}

/// Where the platform's data are.
#[derive(Debug, clap::Args)]
pub(crate) struct DirArgs {
    /// Directory of the platform, as given to serve
    #[arg(long, value_name = "D", required_unless_present_any = ["database", "database_file"])]
    dir: Option<PathBuf>,
    /// PostgreSQL database, as given to serve: postgresql://USER:PASSWORD@HOST:PORT/DATABASE; others see it, rather use the file
    #[arg(long, value_name = "URL", conflicts_with = "database_file")]
    database: Option<String>,
    /// File that holds the URL of the PostgreSQL database; without either, HUFU_DATABASE_URL counts
    #[arg(long, value_name = "F")]
    database_file: Option<PathBuf>,
}

impl DirArgs {
    /// Where the database is.
    ///
    /// # Errors
    /// As [`Place::of`].
    pub(crate) fn place(&self) -> Result<Place, Failure<Text>> {
        let variable = std::env::var(VARIABLE).ok();
        let flags = (self.database.as_deref(), self.database_file.as_deref());
        Place::of(self.dir.as_deref().unwrap_or(Path::new(".")), flags, variable.as_deref())
    }
}

/// Does what a command says.
///
/// # Errors
/// The [`Failure`] with its exit status.
pub(crate) async fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Nodes(args) => lists::show(lists::List::Nodes, args, context).await,
        Command::Products(args) => lists::show(lists::List::Products, args, context).await,
        Command::Shops(args) => lists::show(lists::List::Shops, args, context).await,
        Command::Delist(args) => delist::delist(args, clock::now_ns(), context).await,
        Command::Relist(args) => delist::relist(args, clock::now_ns(), context).await,
        Command::Forks(args) => lists::show(lists::List::Forks, args, context).await,
        Command::Delistings(args) => lists::show(lists::List::Delistings, args, context).await,
        Command::Account(args) => account::run(args, clock::now_ns(), context).await,
        Command::Accounts(args) => lists::show(lists::List::Accounts, args, context).await,
        Command::Operations(args) => operations::run(args, context).await,
        Command::Orders(args) => lists::show(lists::List::Orders, args, context).await,
        Command::Bills(args) => bills::run(args, context).await,
        Command::Usage(args) => lists::show(lists::List::Usage, args, context).await,
        Command::Notices(args) => lists::show(lists::List::Notices, args, context).await,
        Command::Alarms(args) => lists::show(lists::List::Alarms, args, context).await,
        Command::Parents(args) => parents::run(args, clock::now_ns(), context).await,
        Command::Pay(args) => match pay_parent::number(&args.bill_no) {
            Some(parent) => pay_parent::run(args, parent, clock::now_ns(), context).await,
            None => pay::run(args, clock::now_ns(), context).await,
        },
        Command::Refund(args) => refund::run(args, clock::now_ns(), context).await,
        Command::Invoice(args) => invoice::run(args, clock::now_ns(), context).await,
        Command::Invoices(args) => lists::show(lists::List::Invoices, args, context).await,
        Command::Notice(args) => notice::run(args, clock::now_ns(), context).await,
        Command::Reconcile(args) => reconcile::run(args, clock::now_ns(), context).await,
        Command::Pack(args) => pack::run(args, context).await,
    }
}

/// Opens the database; none is ever made here.
async fn open(place: &Place) -> Result<Store, Failure<Text>> {
    if let Place::Dir(dir) = place
        && !dir.join(FILE).is_file()
    {
        return Err(Failure::new(Exit::Io, Text::NoDatabase { path: dir.display().to_string() }));
    }
    place.open(Create::Never).await.map_err(|error| failed(place, &error))
}

/// Does something in one transaction of the database; what it refuses is the answer no.
async fn in_database<T>(
    place: &DirArgs,
    work: impl AsyncFnOnce(&mut AnyConnection) -> Result<Result<T, Text>, Error>,
) -> Result<T, Failure<Text>> {
    let place = place.place()?;
    let store = open(&place).await?;
    let done = async {
        let mut tx = store.write().await?;
        let done = work(&mut tx).await?;
        tx.commit().await?;
        Ok::<_, Error>(done)
    };
    let done = done.await;
    store.close().await;
    let done = done.map_err(|error| failed(&place, &error))?;
    done.map_err(|text| match text {
        Text::Usage { .. } => Failure::new(Exit::Usage, text),
        text => Failure::new(Exit::No, text),
    })
}

/// The same, with the operation (act, upon what, particulars) noted in the same transaction where it was not refused.
async fn in_database_noted<T>(
    place: &DirArgs,
    noted: (&str, &str, &str),
    now_ns: i64,
    work: impl AsyncFnOnce(&mut AnyConnection) -> Result<Result<T, Text>, Error>,
) -> Result<T, Failure<Text>> {
    in_database(place, async |db| {
        let done = work(&mut *db).await?;
        if done.is_ok() {
            operations_of::note_local(db, noted, now_ns).await?;
        }
        Ok(done)
    })
    .await
}

/// What the database says, with the status it deserves.
fn failed(place: &Place, error: &Error) -> Failure<Text> {
    match error {
        Error::Audit(other) => bug(other),
        // Everything else is read from the database: it cannot be read, or does not read back.
        other => place.failed(other),
    }
}
