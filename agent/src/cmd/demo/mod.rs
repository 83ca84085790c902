//! `hufu demo`: the whole main job on this machine, from an offer to a verified evidence pack. Here is only the sequence and
//! the clean end; the parts are beside. Every step is done by the same commands that a person would type.

mod child;
mod site;
mod statement;
mod trade;
mod workload;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use hufu_metering::{Place, hierarchy::Hierarchies};
use serde_json::Value;

use crate::{
    cmd::{Context, Outcome, bug, file},
    text::Text,
};
use child::{Child, Interrupt};
use site::Dirs;
use statement::Finished;
use trade::{Market, Watch};
use workload::Papers;
pub(super) use workload::{ProvisionArgs, WorkloadArgs, provision, workload};

/// How long a server may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Arguments of `hufu demo`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Where everything goes; a second run goes on with the same ledgers
    #[arg(long, value_name = "D", default_value = "hufu-demo")]
    dir: PathBuf,
    /// Seconds of service
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
}

pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let agent = std::env::current_exe().map_err(|e| bug(&e))?;
    let platform = agent.with_file_name("hufu-platform");
    if !platform.exists() {
        let path = platform.display().to_string();
        return Err(Failure::new(Exit::Io, Text::PlatformMissing { path }));
    }
    file::make_dir(&args.dir)?;
    let dir = std::fs::canonicalize(&args.dir).map_err(|e| file::unwritable(&args.dir, &e))?;
    // Relative paths from here on: the agent's socket has room for about a hundred characters only.
    std::env::set_current_dir(&dir).map_err(|e| file::unwritable(&dir, &e))?;
    let _lock = lock(&dir)?;
    let demo = Demo { agent, platform, dir, dirs: Dirs::make()?, context, interrupt: Interrupt::listen()? };
    demo.clear_left_behind();
    workload::claim(&demo.dirs.workload)?;
    site::make_pki(&demo.dirs)?;
    let mut contract = None;
    let outcome = demo.trade(args.seconds, &mut contract);
    if let (Err(_), Some(contract)) = (&outcome, &contract) {
        // The agent is down by now, and would leave the workload running: orders outlive agents.
        Papers::new(&demo.dirs.workload, contract).abandon();
    }
    demo.remove_places();
    let finished = outcome?;
    let good = finished.is_good();
    context.show(&finished.to_json(), || finished.to_text(context.lang))?;
    if let Some(text) = finished.complaint() {
        return Err(Failure::new(Exit::No, text));
    }
    Ok(if good { Exit::Done } else { Exit::No })
}

/// One demo at a time in a directory; the lock goes with the process.
fn lock(dir: &Path) -> Result<std::fs::File, Failure<Text>> {
    let path = dir.join("lock");
    let file = std::fs::File::create(&path).map_err(|e| file::unwritable(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Failure::new(Exit::Io, Text::DemoInUse { path: dir.display().to_string() })),
    }
}

struct Demo<'a> {
    agent: PathBuf,
    platform: PathBuf,
    /// Absolute; it is also the working directory.
    dir: PathBuf,
    dirs: Dirs,
    context: &'a Context,
    interrupt: Interrupt,
}

impl Demo<'_> {
    /// What a demo that was killed left running. Its contract is served no further, but still billed by its node.
    fn clear_left_behind(&self) {
        for contract in workload::left_behind(&self.dirs.workload) {
            Papers::new(&self.dirs.workload, &contract).abandon();
        }
        self.remove_places();
    }

    /// Removes the empty cgroups of this demo's orders.
    fn remove_places(&self) {
        let Ok(hierarchies) = Hierarchies::detect(Path::new("/")) else { return };
        let Ok(entries) = std::fs::read_dir(&self.dirs.workload) else { return };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut contracts: Vec<String> =
            names.filter_map(|name| name.split_once('.').map(|(contract, _)| contract.to_owned())).collect();
        contracts.sort_unstable();
        contracts.dedup();
        for contract in contracts {
            let Ok(place) = Place::find(&hierarchies, site::PLACE, &contract) else { continue };
            for _ in 0..50 {
                if place.remove().is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // What another demo still has in it stays.
        Place::remove_parent(&hierarchies, site::PLACE).ok();
    }

    fn say(&self, text: &Text) {
        self.context.say(text);
    }

    /// The main job. Children end when this returns, whatever it returns.
    fn trade(&self, seconds: u64, contract: &mut Option<String>) -> Result<Finished, Failure<Text>> {
        let (mut platform, ready) = self.start_platform()?;
        let http = text_of(&ready, "http")?;
        let broker = text_of(&ready, "broker")?;
        let port = broker.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = port.ok_or_else(|| bug(&format!("broker address {broker}")))?;
        site::make_node(&self.dirs, &self.agent, host, port)?;
        let config = self.dirs.config();
        let config = config.to_str().ok_or_else(|| bug(&"path"))?;
        let arguments = ["agent", "--config", config, "--exit-with-parent"];
        let mut agent = Child::start("hufu agent", &self.agent, &arguments, self.dirs.log("agent"))?;
        let mut watch = Watch::new(self, &mut platform, &mut agent);
        watch.until_linked(READY_LIMIT)?;
        self.say(&Text::DemoUp { node: site::pool(), http: http.clone() });
        let market = Market::new(self, &http);
        let offer = market.browse(&mut watch, READY_LIMIT)?;
        self.say(&Text::DemoOffer { product: site::PRODUCT.to_owned(), node: site::pool() });
        let deal = market.order(seconds)?;
        let contract_no = text_of(&deal, "contract_no")?;
        *contract = Some(contract_no.clone());
        let end = text_of(&deal, "service_end")?;
        self.say(&Text::DemoDeal { contract: contract_no.clone(), end });
        let billed = watch.until_billed(&contract_no, Duration::from_secs(seconds + 90))?;
        let measure = Papers::new(&self.dirs.workload, &contract_no).measure();
        let bill_no = text_of(&billed.bill, "bill_no")?;
        let total = text_of(&billed.bill, "total_cny")?;
        self.say(&Text::DemoBilled { bill: bill_no.clone(), total: total.clone() });
        watch.until(&contract_no, READY_LIMIT, "receipt", |bill, _| bill["receipted"] == true)?;
        self.say(&Text::DemoReceipted { bill: bill_no.clone() });
        market.pay(&bill_no, &total)?;
        watch
            .until(&contract_no, READY_LIMIT, "payment", |bill, _| !bill["paid"].is_null() && bill["paid"] != false)?;
        self.say(&Text::DemoPaid { bill: bill_no.clone(), total: total.clone() });
        let overall = market.score(&offer)?;
        self.say(&Text::DemoScored { overall });
        let pack = market.pack(&bill_no)?;
        let verified = market.verify(&pack)?;
        Ok(Finished {
            node: site::pool(),
            contract_no,
            bill_no,
            total_cny: total,
            seconds,
            pack: self.dir.join(pack),
            trust: self.dir.join(self.dirs.root()),
            agent_dir: self.dir.join(&self.dirs.agent),
            platform_dir: self.dir.join(&self.dirs.platform),
            metered: offer["metered"].clone(),
            tariff: offer["tariff"].clone(),
            usage: billed.usage,
            verified,
            measure,
        })
    }

    fn start_platform(&self) -> Result<(Child, Value), Failure<Text>> {
        let path = |path: PathBuf| path.display().to_string();
        let (dir, root) = (path(self.dirs.platform.clone()), path(self.dirs.root()));
        let (key, cert) = (path(self.dirs.pki.join("platform.key")), path(self.dirs.pki.join("platform.pem")));
        let arguments = [
            "--json",
            "serve",
            "--dir",
            &dir,
            "--site",
            site::SITE,
            "--key",
            &key,
            "--cert",
            &cert,
            "--trust",
            &root,
            "--listen",
            "127.0.0.1:0",
            "--embedded-broker",
            "--broker-listen",
            "127.0.0.1:0",
            "--exit-with-parent",
        ];
        let mut platform = Child::start("hufu-platform", &self.platform, &arguments, self.dirs.log("platform"))?;
        let ready = platform.first_object(READY_LIMIT, &self.interrupt)?;
        Ok((platform, ready))
    }
}

/// A text member of an answer that must have it.
fn text_of(value: &Value, name: &str) -> Result<String, Failure<Text>> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| bug(&format!("an answer without {name}: {value}")))
}
