//! What the parties of a demo do: the buyer's commands in a directory of its own, the operator's commands, and the watch
//! over the node's status until something has come true.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use hufu_audit::{Exit, Failure};
use serde_json::Value;

use super::{
    Demo,
    child::{Child, Deadline, Said, ask, pause},
    site, text_of,
};
use crate::{clock, cmd::bug, text::Text};

/// Looks at a failed place until the demo gives up.
const FAILURES_MAX: u32 = 5;
/// Pauses between two browse requests.
const BROWSE_PAUSES: usize = 10;

/// Watches the servers and the node's status.
pub(super) struct Watch<'a> {
    demo: &'a Demo<'a>,
    platform: &'a mut Child,
    agent: &'a mut Child,
}

/// A contract with its first bill.
pub(super) struct Billed {
    pub(super) bill: Value,
    pub(super) usage: Value,
}

impl<'a> Watch<'a> {
    pub(super) fn new(demo: &'a Demo<'a>, platform: &'a mut Child, agent: &'a mut Child) -> Self {
        Self { demo, platform, agent }
    }

    /// A pause, if nobody has ended and nobody wants to.
    pub(super) fn wait(&mut self, deadline: Deadline, what: &str) -> Result<(), Failure<Text>> {
        self.demo.interrupt.check()?;
        self.platform.check()?;
        self.agent.check()?;
        deadline.check(what, &self.demo.dirs.log("agent"))?;
        pause();
        Ok(())
    }

    fn status(&self) -> Option<Value> {
        crate::cmd::node::ask(&self.demo.dirs.agent.join("hufu.sock"), &crate::local::Question::Status).ok()
    }

    /// Until the agent answers and has its broker.
    pub(super) fn until_linked(&mut self, limit: Duration) -> Result<(), Failure<Text>> {
        let deadline = Deadline::after(limit);
        while !self.status().is_some_and(|status| status["linked"] == true) {
            self.wait(deadline, "hufu agent")?;
        }
        Ok(())
    }

    /// Until the contract's bill and contract satisfy `holds`.
    pub(super) fn until(
        &mut self,
        contract_no: &str,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Value, &Value) -> bool,
    ) -> Result<Value, Failure<Text>> {
        let deadline = Deadline::after(limit);
        loop {
            let contract = self.status().and_then(|status| find(&status, contract_no));
            if let Some(contract) = contract
                && holds(&contract["bills"][0], &contract)
            {
                return Ok(contract);
            }
            self.wait(deadline, what)?;
        }
    }

    /// Until the service has ended and its bill stands in the ledger, with live progress.
    pub(super) fn until_billed(&mut self, contract_no: &str, limit: Duration) -> Result<Billed, Failure<Text>> {
        let deadline = Deadline::after(limit);
        let progress = Progress::new(self.demo);
        let (mut looked_ns, mut failures) = (0, 0);
        loop {
            // The status is asked for once a second: watching must not cost more than metering.
            let now_ns = clock::now().mono_ns;
            if now_ns.saturating_sub(looked_ns) >= 1_000_000_000 {
                looked_ns = now_ns;
                if let Some(contract) = self.status().and_then(|status| find(&status, contract_no)) {
                    // The agent tries a place again; a demo waits for it only a moment.
                    failures = if contract["service"] == "failed" { failures + 1 } else { 0 };
                    if failures > FAILURES_MAX {
                        let log = self.demo.dirs.log("agent").display().to_string();
                        return Err(Failure::new(Exit::Software, Text::NotProvided { log }));
                    }
                    progress.show(&contract);
                    if contract["bills"][0].is_object() {
                        progress.end();
                        return Ok(Billed { bill: contract["bills"][0].clone(), usage: contract["usage"].clone() });
                    }
                }
            }
            self.wait(deadline, "bill")?;
        }
    }
}

fn find(status: &Value, contract_no: &str) -> Option<Value> {
    status["contracts"].as_array()?.iter().find(|contract| contract["contract_no"] == contract_no).cloned()
}

/// Live progress: a line that changes on a terminal, a plain line every few seconds otherwise.
struct Progress<'a> {
    demo: &'a Demo<'a>,
    bar: Option<indicatif::ProgressBar>,
    records: std::cell::Cell<u64>,
}

impl<'a> Progress<'a> {
    fn new(demo: &'a Demo<'a>) -> Self {
        let bar = std::io::stderr().is_terminal().then(indicatif::ProgressBar::new_spinner);
        Self { demo, bar, records: std::cell::Cell::new(0) }
    }

    fn show(&self, contract: &Value) {
        let records = contract["records"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        let state = contract["state"].as_str().unwrap_or_default().to_owned();
        let used: Vec<String> = contract["usage"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|reading| {
                let quantity = reading["quantity"].as_str().filter(|quantity| *quantity != "0")?;
                Some(super::statement::quantity(reading["resource"].as_str()?, quantity))
            })
            .collect();
        let text = Text::DemoMetering { state, records: records.to_string(), used: used.join(", ") };
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.render(self.demo.context.lang));
                bar.tick();
            }
            None if records != self.records.get() => self.demo.say(&text),
            None => {}
        }
        self.records.set(records);
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The buyer, who holds a key, a certificate, a trust anchor and an address; and the operator.
pub(super) struct Market<'a> {
    demo: &'a Demo<'a>,
    url: String,
    /// The directory of this contract's papers, below the buyer's.
    state: String,
}

impl<'a> Market<'a> {
    pub(super) fn new(demo: &'a Demo<'a>, http: &str) -> Self {
        Self { demo, url: format!("http://{http}"), state: format!("contract-{}", clock::now().real_ns) }
    }

    fn try_buyer(&self, arguments: &[&str]) -> Result<Said, Failure<Text>> {
        let mut words = vec!["--json", "--lang", "en", "buyer"];
        words.extend_from_slice(arguments);
        words.extend(["--platform", &self.url, "--key", "buyer.key", "--cert", "buyer.pem"]);
        words.extend(["--trust", "trust.pem", "--state", &self.state]);
        ask(&self.demo.agent, &words, &self.demo.dirs.buyer, &self.demo.dirs.log("buyer"), &self.demo.interrupt)
    }

    fn failed(&self, log: &str, (status, said): (i32, String)) -> Failure<Text> {
        let log = self.demo.dirs.log(log).display().to_string();
        Failure::new(Exit::Software, Text::StepFailed { said, status: status.to_string(), log })
    }

    fn buyer(&self, arguments: &[&str]) -> Result<Value, Failure<Text>> {
        self.try_buyer(arguments)?.map_err(|failure| self.failed("buyer", failure))
    }

    /// Asks for an offer; the node's products may take a moment to reach the platform.
    pub(super) fn browse(&self, watch: &mut Watch<'_>, limit: Duration) -> Result<Value, Failure<Text>> {
        let deadline = Deadline::after(limit);
        let pool = site::pool();
        loop {
            match self.try_buyer(&["browse", "--node", &pool, "--product", site::PRODUCT])? {
                Ok(offer) => return Ok(offer),
                Err((status, said)) => {
                    let late = status == i32::from(Exit::Unavailable as u8) || said.contains("unknown");
                    if !late || deadline.check("offer", &self.demo.dirs.log("buyer")).is_err() {
                        return Err(self.failed("buyer", (status, said)));
                    }
                    for _ in 0..BROWSE_PAUSES {
                        watch.wait(deadline, "offer")?;
                    }
                }
            }
        }
    }

    pub(super) fn order(&self, seconds: u64) -> Result<Value, Failure<Text>> {
        self.buyer(&["order", "--quantity", "1", "--term", &format!("{seconds}s"), "--ceiling", "100"])
    }

    /// Scores every priced kind; returns the overall score.
    pub(super) fn score(&self, offer: &Value) -> Result<String, Failure<Text>> {
        let mut kinds: Vec<String> = offer["tariff"]["prices"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|price| Some(price["resource"].as_str()?.trim_start_matches("reserved_").to_owned()))
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        let scores: Vec<String> =
            kinds.iter().zip([95, 90, 88, 92, 97].iter().cycle()).map(|(k, s)| format!("{k}={s}")).collect();
        let mut words = vec!["score"];
        words.extend(scores.iter().map(String::as_str));
        text_of(&self.buyer(&words)?, "overall")
    }

    /// Fetches the pack; its path below the demo's directory.
    pub(super) fn pack(&self, bill_no: &str) -> Result<PathBuf, Failure<Text>> {
        let name = format!("{bill_no}.zip");
        self.buyer(&["pack", bill_no, "-o", &name])?;
        Ok(self.demo.dirs.buyer.join(name))
    }

    /// The operator records the payment.
    pub(super) fn pay(&self, bill_no: &str, total: &str) -> Result<(), Failure<Text>> {
        let dir = self.demo.dirs.platform.display().to_string();
        let words = ["--json", "--lang", "en", "pay", bill_no, "--dir", &dir, "--amount", total, "--reference", "demo"];
        let paid =
            ask(&self.demo.platform, &words, ".".as_ref(), &self.demo.dirs.log("operator"), &self.demo.interrupt)?;
        paid.map(drop).map_err(|failure| self.failed("operator", failure))
    }

    /// `hufu verify` of the pack, with nothing but the root certificate.
    pub(super) fn verify(&self, pack: &std::path::Path) -> Result<Value, Failure<Text>> {
        let (pack, root) = (pack.display().to_string(), self.demo.dirs.root().display().to_string());
        let words = ["--json", "--lang", "en", "verify", &pack, "--trust", &root];
        let log = "verify";
        let verified = ask(&self.demo.agent, &words, ".".as_ref(), &self.demo.dirs.log(log), &self.demo.interrupt)?;
        let verified = verified.map_err(|failure| self.failed(log, failure))?;
        if verified["verdicts"].is_object() { Ok(verified) } else { Err(bug(&"verify gave no verdicts")) }
    }
}
