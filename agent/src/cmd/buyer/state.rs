//! The papers of one contract in the buyer's directory: what was asked, the offer, the order, the deal, the score. Every file
//! is written before it is sent, so that an interrupted command sends the same bytes again instead of signing twice.

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_trade::if2::{Accepted, Browse, Offered, OrderChange, SendOrder};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cmd::{bug, file},
    text::Text,
};

/// What was asked, and of whom.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Asked {
    /// `{site}/{node}`.
    pub(super) pool: String,
    /// Hexadecimal.
    pub(super) contract_no: String,
    /// As it was sent.
    pub(super) request: Browse,
}

impl Asked {
    /// Whether it asked this node for this product.
    pub(super) fn is_for(&self, pool: &str, product: &str) -> bool {
        self.pool == pool && self.request.product_id == product
    }
}

#[derive(Serialize, Deserialize)]
struct OfferFile {
    asked: Asked,
    offered: Offered,
}

/// The directory of one contract.
pub(super) struct State {
    dir: PathBuf,
}

impl State {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn keep(&self, name: &str, value: &impl Serialize) -> Result<(), Failure<Text>> {
        file::make_dir(&self.dir)?;
        file::replace(&self.dir.join(name), &serde_json::to_vec_pretty(value).map_err(|e| bug(&e))?)
    }

    fn find<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure<Text>> {
        let path = self.dir.join(name);
        if path.exists() { file::read_json(&path).map(Some) } else { Ok(None) }
    }

    /// A paper that must be there first.
    pub(super) fn lacks(&self, name: &str) -> Failure<Text> {
        let path = self.dir.join(name).display().to_string();
        Failure::new(Exit::Io, Text::PaperMissing { path })
    }

    /// One directory holds one contract.
    pub(super) fn refuse_second_offer(&self) -> Result<(), Failure<Text>> {
        let path = self.dir.join("offer.json");
        if path.exists() {
            return Err(Failure::new(Exit::Io, Text::PaperThere { path: path.display().to_string() }));
        }
        Ok(())
    }

    pub(super) fn asked(&self) -> Result<Option<Asked>, Failure<Text>> {
        self.find("request.json")
    }

    pub(super) fn keep_asked(&self, asked: &Asked) -> Result<(), Failure<Text>> {
        self.keep("request.json", asked)
    }

    pub(super) fn offer(&self) -> Result<(Asked, Offered), Failure<Text>> {
        let found: Option<OfferFile> = self.find("offer.json")?;
        found.map(|file| (file.asked, file.offered)).ok_or_else(|| self.lacks("offer.json"))
    }

    pub(super) fn keep_offer(&self, asked: &Asked, offered: &Offered) -> Result<(), Failure<Text>> {
        self.keep("offer.json", &OfferFile { asked: asked.clone(), offered: offered.clone() })
    }

    pub(super) fn order(&self) -> Result<Option<SendOrder>, Failure<Text>> {
        self.find("order.json")
    }

    pub(super) fn keep_order(&self, order: &SendOrder) -> Result<(), Failure<Text>> {
        self.keep("order.json", order)
    }

    pub(super) fn deal(&self) -> Result<Option<Accepted>, Failure<Text>> {
        self.find("deal.json")
    }

    pub(super) fn keep_deal(&self, deal: &Accepted) -> Result<(), Failure<Text>> {
        self.keep("deal.json", deal)
    }

    /// A notice that was signed and not answered yet.
    pub(super) fn change(&self, act: &str) -> Result<Option<OrderChange>, Failure<Text>> {
        self.find(&format!("change-{act}.json"))
    }

    pub(super) fn keep_change(&self, act: &str, change: &OrderChange) -> Result<(), Failure<Text>> {
        self.keep(&format!("change-{act}.json"), change)
    }

    /// After the answer: the same act may be asked for again.
    pub(super) fn forget_change(&self, act: &str) -> Result<(), Failure<Text>> {
        let path = self.dir.join(format!("change-{act}.json"));
        std::fs::remove_file(&path).map_err(|error| file::unwritable(&path, &error))
    }

    pub(super) fn score(&self) -> Result<Option<SendOrder>, Failure<Text>> {
        self.find("score.json")
    }

    pub(super) fn keep_score(&self, score: &SendOrder) -> Result<(), Failure<Text>> {
        self.keep("score.json", score)
    }
}
