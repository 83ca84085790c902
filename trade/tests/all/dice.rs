//! Every structure of the trade out of random bytes: proptest gives the bytes and shrinks them, the dice give the values.

use der::asn1::OctetString;
use hufu_gm::Signed;
use hufu_trade::{
    allocation::{Allocation, Device},
    bill::{Bill, Line, RatedGap},
    correction::{Adjustment, Correction, RefundPaid},
    entry::{
        Certificates, Countersignature, Deal, EntryName, Epoch, FinanceLink, OrderStatus, Payment, Receipt,
        ReceivedBill, Refused, Rules, SetAside, SignedStatement, UserOperation,
    },
    if2::Blocks,
    money::{Money, UnitPrice},
    notice::{Notice, Renewal},
    octets::Octets,
    quality::{Delivered, QualityLine},
    statement::{
        ContractNoInput, ContractValue, Metered, Offer, Payment as Paying, Requirement, RequirementItem, Reservation,
        ScoreCard, ScoreItem, Statement,
    },
    tariff::{Price, Scheme, Tariff, Tier},
    usage::{
        HostTotal, MeterIdentity, Reading, Reason, SourceIdentity, Status, TimeQuality, TimeState, UsageRecord, Window,
    },
};

/// Values from bytes; zeros when they run out.
pub(crate) struct Dice<'a>(pub(crate) &'a [u8]);

impl Dice<'_> {
    fn octets<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let count = N.min(self.0.len());
        let (head, tail) = self.0.split_at(count);
        out[..count].copy_from_slice(head);
        self.0 = tail;
        out
    }
    pub(crate) fn u8(&mut self) -> u8 {
        self.octets::<1>()[0]
    }
    fn odd(&mut self) -> bool {
        self.u8() % 2 == 1
    }
    /// An integer of a random length in bytes, so that every length of DER INTEGER is met.
    pub(crate) fn u128(&mut self) -> u128 {
        let bits = u32::from(self.u8() % 17) * 8;
        u128::from_be_bytes(self.octets()).checked_shr(128 - bits).unwrap_or(0)
    }
    pub(crate) fn u64(&mut self) -> u64 {
        u64::try_from(self.u128() % (1 << 64)).unwrap()
    }
    pub(crate) fn u32(&mut self) -> u32 {
        u32::try_from(self.u64() % (1 << 32)).unwrap()
    }
    pub(crate) fn u16(&mut self) -> u16 {
        u16::try_from(self.u64() % (1 << 16)).unwrap()
    }
    pub(crate) fn i64(&mut self) -> i64 {
        let value = i64::try_from(self.u64() / 2).unwrap();
        if self.odd() { -value - 1 } else { value }
    }
    pub(crate) fn money(&mut self) -> Money {
        let value = i128::try_from(self.u128() / 2).unwrap();
        Money(if self.odd() { -value - 1 } else { value })
    }
    pub(crate) fn hash<const N: usize>(&mut self) -> Octets<N> {
        Octets(self.octets())
    }
    pub(crate) fn text(&mut self) -> String {
        let count = self.u8() % 9;
        (0..count).map(|_| ['a', 'Z', '-', '/', '\u{0}', '虎', '符', '"', '\n'][usize::from(self.u8() % 9)]).collect()
    }
    pub(crate) fn bytes(&mut self) -> OctetString {
        let count = usize::from(self.u8()).min(self.0.len());
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        OctetString::new(head).unwrap()
    }
    pub(crate) fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.odd().then(|| make(self))
    }
    pub(crate) fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.u8() % 4;
        (0..count).map(|_| make(self)).collect()
    }
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.u8()) % of.len()]
    }

    pub(crate) fn contract_no_input(&mut self) -> ContractNoInput {
        ContractNoInput { buyer: self.hash(), pool: self.text(), nonce: self.hash(), time: self.i64() }
    }
    pub(crate) fn requirement(&mut self) -> Requirement {
        Requirement {
            catalogue_revision: self.u64(),
            items: self.some(|d| RequirementItem { product_id: d.text(), quantity: d.u32() }),
            term_ns: self.u64(),
            tariff: self.hash(),
            parent: self.maybe(Self::parent_order),
        }
    }
    pub(crate) fn contract_value(&mut self) -> ContractValue {
        ContractValue { payment: self.pick(&[Paying::Prepaid, Paying::Postpaid]), amount: self.money() }
    }
    pub(crate) fn score_card(&mut self) -> ScoreCard {
        let overall = u16::try_from(self.u64() % 65_536).unwrap();
        ScoreCard { overall, items: self.some(|d| ScoreItem { code: d.u8(), score: d.u8() }) }
    }
    pub(crate) fn statement(&mut self) -> Statement {
        Statement {
            version: self.u8(),
            con_type: self.u8(),
            contract_no: self.hash(),
            contract_time: self.i64(),
            computing_pool_id: self.text(),
            buyer: self.hash(),
            nonce: self.maybe(Self::hash),
            offer: self.maybe(Self::hash),
            follows: self.maybe(Self::hash),
            requirement: self.maybe(Self::requirement),
            contract_value: self.maybe(Self::contract_value),
            score: self.maybe(Self::score_card),
        }
    }
    pub(crate) fn signed_statement(&mut self) -> SignedStatement {
        SignedStatement { statement: self.bytes(), signature: self.bytes(), certificates: self.some(Self::bytes) }
    }
    pub(crate) fn tariff(&mut self) -> Tariff {
        let tier = |d: &mut Self| Tier { up_to: d.maybe(Self::u128), price: UnitPrice(d.money().0) };
        Tariff {
            version: self.u8(),
            currency: self.text(),
            rounding: self.text(),
            calendar: self.text(),
            prices: self.some(|d| Price {
                resource: d.text(),
                per: d.text(),
                scheme: d.pick(&[Scheme::Flat, Scheme::Graduated, Scheme::Volume]),
                tiers: d.some(tier),
            }),
        }
    }
    pub(crate) fn offer(&mut self) -> Offer {
        Offer {
            version: self.u8(),
            contract_no: self.hash(),
            computing_pool_id: self.text(),
            buyer: self.hash(),
            browse: self.hash(),
            product_id: self.text(),
            catalogue_revision: self.u64(),
            stock: self.u32(),
            term_ns_max: self.u64(),
            valid_from: self.i64(),
            valid_until: self.i64(),
            tariff: self.tariff(),
            metered: self.some(|d| Metered { resource: d.text(), source: d.text(), why_not: d.maybe(Self::text) }),
            window_ns: self.u64(),
            reserves: self.some(|d| Reservation { resource: d.text(), quantity: d.u64() }),
            rules: self.hash(),
            fingerprint: self.maybe(Self::hash),
        }
    }
    pub(crate) fn entry_name(&mut self) -> EntryName {
        EntryName { log: self.u8(), height: self.u64(), index: self.u32(), hash: self.hash() }
    }
    pub(crate) fn signed(&mut self) -> Signed {
        Signed::from_parts(self.bytes().into_bytes().into(), &self.octets(), self.bytes().into_bytes().into()).unwrap()
    }
    pub(crate) fn countersignature(&mut self) -> Countersignature {
        Countersignature {
            statement: self.hash(),
            buyer_signature: self.hash(),
            computing_pool_id: self.text(),
            time: self.i64(),
        }
    }
    pub(crate) fn deal(&mut self) -> Deal {
        Deal {
            version: self.u8(),
            con_type: self.u8(),
            contract_no: self.hash(),
            contract_time: self.i64(),
            computing_pool_id: self.text(),
            buyer: self.hash(),
            order: self.entry_name(),
            offer: self.hash(),
            requirement: self.requirement(),
            contract_value: self.contract_value(),
            buyer_signature: self.bytes(),
            countersignature: self.signed(),
            service_end: self.i64(),
        }
    }
    pub(crate) fn rules(&mut self) -> Rules {
        Rules { version: self.u8(), text: self.text() }
    }
    pub(crate) fn certificates(&mut self) -> Certificates {
        Certificates { role: self.text(), certificates: self.some(Self::bytes) }
    }
    pub(crate) fn order_status(&mut self) -> OrderStatus {
        OrderStatus {
            version: self.u8(),
            contract_no: self.hash(),
            act: self.text(),
            from: self.text(),
            to: self.text(),
            time: self.i64(),
            why: self.text(),
        }
    }
    pub(crate) fn device(&mut self) -> Device {
        Device { resource: self.text(), id: self.text() }
    }
    pub(crate) fn allocation(&mut self) -> Allocation {
        Allocation { version: self.u8(), contract_no: self.hash(), time: self.i64(), devices: self.some(Self::device) }
    }
    pub(crate) fn user_operation(&mut self) -> UserOperation {
        UserOperation {
            version: self.u8(),
            contract_no: self.hash(),
            operator: self.text(),
            act: self.text(),
            state: self.text(),
            time: self.i64(),
            why: self.text(),
        }
    }
    pub(crate) fn quality(&mut self) -> TimeQuality {
        let states = [TimeState::Unset, TimeState::Relative, TimeState::Stepped, TimeState::Synchronised];
        TimeQuality { state: self.pick(&states), max_error_ns: self.maybe(Self::u64) }
    }
    pub(crate) fn identity(&mut self) -> MeterIdentity {
        MeterIdentity {
            boot_id: self.hash(),
            source: self.text(),
            path: self.text(),
            instance: self.u64(),
            resolved: self.maybe(Self::text),
            attached: self
                .maybe(|d| d.some(|d| SourceIdentity { source: d.text(), path: d.text(), instance: d.u64() })),
        }
    }
    pub(crate) fn reading(&mut self) -> Reading {
        Reading {
            code: self.u8(),
            qualifier: self.maybe(Self::text),
            status: self.pick(&[Status::Measured, Status::Estimated, Status::Missing]),
            delta: self.maybe(Self::u128),
            total: self.maybe(Self::u128),
            why: self.maybe(Self::text),
        }
    }
    pub(crate) fn delivered(&mut self) -> Delivered {
        Delivered {
            code: self.u8(),
            delta: self.maybe(Self::u64),
            total: self.maybe(Self::u64),
            why: self.maybe(Self::text),
        }
    }
    pub(crate) fn usage_record(&mut self) -> UsageRecord {
        let reasons = [
            Reason::Begin,
            Reason::Continue,
            Reason::End,
            Reason::TariffChange,
            Reason::Gap,
            Reason::PowerLoss,
            Reason::Suspended,
        ];
        UsageRecord {
            version: self.u8(),
            contract_no: self.hash(),
            order_seq: self.u64(),
            previous: self.hash(),
            start: self.i64(),
            end: self.i64(),
            reason: self.pick(&reasons),
            elapsed_ns: self.u64(),
            quality: self.quality(),
            meter: self.hash(),
            identity: self.maybe(Self::identity),
            why: self.maybe(Self::text),
            readings: self.some(Self::reading),
            delivered: self.maybe(|d| d.some(Self::delivered)),
        }
    }
    pub(crate) fn host_total(&mut self) -> HostTotal {
        HostTotal { code: self.u8(), host: self.maybe(Self::u128), orders: self.u128(), check: self.text() }
    }
    pub(crate) fn window(&mut self) -> Window {
        Window {
            version: self.u8(),
            start: self.i64(),
            end: self.i64(),
            elapsed_ns: self.u64(),
            samples_due: self.u32(),
            samples_taken: self.u32(),
            boot_id: self.hash(),
            quality: self.quality(),
            orders: self.u32(),
            totals: self.some(Self::host_total),
        }
    }
    pub(crate) fn line(&mut self) -> Line {
        Line {
            resource: self.text(),
            unit: self.text(),
            quantity: self.u128(),
            tier: u16::from(self.u8()) * 257,
            unit_price: UnitPrice(self.money().0),
            per: self.text(),
            amount: self.money(),
        }
    }
    pub(crate) fn gap(&mut self) -> RatedGap {
        let (order_seq, start, end) = (self.u64(), self.i64(), self.i64());
        RatedGap { order_seq, start, end, rule: self.text(), amount: self.money() }
    }
    pub(crate) fn quality_line(&mut self) -> QualityLine {
        QualityLine { code: self.u8(), ns: self.u64(), elapsed_ns: self.u64() }
    }
    pub(crate) fn bill(&mut self) -> Bill {
        Bill {
            version: self.u8(),
            number: self.text(),
            contract_no: self.hash(),
            computing_pool_id: self.text(),
            buyer: self.hash(),
            deal: self.hash(),
            offer: self.hash(),
            period_start: self.i64(),
            period_end: self.i64(),
            first_seq: self.u64(),
            last_seq: self.u64(),
            last_record: self.entry_name(),
            rests_on: self.maybe(Self::entry_name),
            previous_bill: self.maybe(Self::hash),
            currency: self.text(),
            rounding_rule: self.text(),
            lines: self.some(Self::line),
            gaps: self.some(Self::gap),
            rounding: self.money(),
            over_ceiling: self.maybe(Self::money),
            total: self.money(),
            refund: self.maybe(Self::money),
            quality: self.maybe(|d| d.some(Self::quality_line)),
        }
    }
    pub(crate) fn finance_link(&mut self) -> FinanceLink {
        let kind = u16::from(self.u8()) * 257;
        FinanceLink { contract_no: self.hash(), kind, finance: self.entry_name() }
    }
    pub(crate) fn payment(&mut self) -> Payment {
        Payment {
            version: self.u8(),
            contract_no: self.hash(),
            number: self.text(),
            bill: self.hash(),
            amount: self.money(),
            paid_at: self.i64(),
            rests_on: self.entry_name(),
            confirmation: self.bytes(),
        }
    }
    pub(crate) fn renewal(&mut self) -> Renewal {
        Renewal { term_ns: self.u64(), contract_value: self.contract_value() }
    }
    pub(crate) fn notice(&mut self) -> Notice {
        Notice {
            version: self.u8(),
            contract_no: self.hash(),
            computing_pool_id: self.text(),
            deal: self.hash(),
            act: self.text(),
            time: self.i64(),
            bill: self.maybe(Self::hash),
            renewal: self.maybe(Self::renewal),
            why: self.text(),
        }
    }
    pub(crate) fn adjustment(&mut self) -> Adjustment {
        Adjustment { resource: self.text(), why: self.text(), amount: self.money() }
    }
    pub(crate) fn correction(&mut self) -> Correction {
        Correction {
            version: self.u8(),
            number: self.text(),
            contract_no: self.hash(),
            computing_pool_id: self.text(),
            bill: self.hash(),
            previous: self.maybe(Self::hash),
            rests_on: self.entry_name(),
            time: self.i64(),
            before: self.money(),
            adjustments: self.some(Self::adjustment),
            total: self.money(),
        }
    }
    pub(crate) fn refund_paid(&mut self) -> RefundPaid {
        RefundPaid {
            version: self.u8(),
            contract_no: self.hash(),
            number: self.text(),
            bill: self.hash(),
            correction: self.hash(),
            amount: self.money(),
            paid_at: self.i64(),
            rests_on: self.entry_name(),
            confirmation: self.bytes(),
        }
    }
    pub(crate) fn set_aside(&mut self) -> SetAside {
        SetAside { segment: self.u32(), offset: self.u64(), length: self.u64(), sm3: self.hash() }
    }
    pub(crate) fn epoch(&mut self) -> Epoch {
        let (epoch, log, held) = (self.u64(), self.u8(), self.u64());
        let (receipted, why) = (self.u64(), self.text());
        let answer = self.maybe(Self::bytes);
        Epoch { epoch, log, held, receipted, why, answer }
    }
    pub(crate) fn receipt(&mut self) -> Receipt {
        Receipt {
            version: self.u8(),
            computing_pool_id: self.text(),
            log: self.u8(),
            size: self.u64(),
            root: self.hash(),
            stored_at: self.i64(),
            refused: self.some(|d| Refused { entry: d.hash(), code: d.text() }),
            bills: self.some(|d| ReceivedBill { entry: d.hash(), number: d.text() }),
        }
    }
    pub(crate) fn blocks(&mut self) -> Blocks {
        let (version, log, first) = (self.u8(), self.u8(), self.u64());
        Blocks { version, log, first, blocks: self.some(Self::bytes) }
    }
}
