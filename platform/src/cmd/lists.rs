//! `hufu-platform nodes|products|shops|delistings|orders|bills|usage|notices|alarms|invoices`: what the database holds, as a table or as one JSON object with
//! one list, named as the command is.

use std::collections::BTreeMap;

use hufu_audit::{Exit, Failure, Lang};
use serde::Serialize;
use serde_json::Value;
use sqlx::AnyConnection;

use super::{DirArgs, Outcome, failed, open};
use crate::{
    cli::{Context, bug},
    store::{account, delisting, fork, invoice, list, operation},
    text::Text,
};

/// Field of a row, English heading, Chinese heading.
type Column = (&'static str, &'static str, &'static str);

/// A list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Nodes and the sizes of their logs.
    Nodes,
    /// Products.
    Products,
    /// Contracts.
    Orders,
    /// Bills and payments.
    Bills,
    /// Usage by contract and resource.
    Usage,
    /// Notices of the platform, newest first.
    Notices,
    /// Alarms, newest first.
    Alarms,
    /// Acts on invoices, newest first.
    Invoices,
    /// How the sites present themselves.
    Shops,
    /// What is taken off sale.
    Delistings,
    /// Proofs against nodes that showed two pasts.
    Forks,
    /// Users' accounts, the newest changes first.
    Accounts,
    /// What users did, newest first.
    Operations,
}

impl List {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [List; 13] = [
        List::Nodes,
        List::Products,
        List::Orders,
        List::Bills,
        List::Usage,
        List::Notices,
        List::Alarms,
        List::Invoices,
        List::Shops,
        List::Delistings,
        List::Forks,
        List::Accounts,
        List::Operations,
    ];

    /// Name of the command and of the list in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            List::Nodes => "nodes",
            List::Products => "products",
            List::Orders => "orders",
            List::Bills => "bills",
            List::Usage => "usage",
            List::Notices => "notices",
            List::Alarms => "alarms",
            List::Invoices => "invoices",
            List::Shops => "shops",
            List::Delistings => "delistings",
            List::Forks => "forks",
            List::Accounts => "accounts",
            List::Operations => "operations",
        }
    }

    /// The columns a person is shown; JSON has every field.
    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            List::Nodes => &[
                ("node", "node", "节点"),
                ("presence", "presence", "状态"),
                ("presence_at", "since", "状态时间"),
                ("trade_size", "trade blocks", "交易区块"),
                ("finance_size", "finance blocks", "财务区块"),
                ("forks", "forks", "分叉"),
            ],
            List::Products => &[
                ("node", "node", "节点"),
                ("presence", "presence", "状态"),
                ("id", "product", "产品"),
                ("class", "class", "类别"),
                ("name", "name", "名称"),
                ("stock", "stock", "库存"),
                ("prices", "prices, CNY", "价格（元）"),
            ],
            List::Orders => &[
                ("contract_no", "contract", "合约"),
                ("node", "node", "节点"),
                ("state", "state", "状态"),
                ("product", "product", "产品"),
                ("service_start", "from", "起"),
                ("service_end", "until", "止"),
            ],
            List::Bills => &[
                ("bill_no", "bill", "账单"),
                ("node", "node", "节点"),
                ("total_cny", "total, CNY", "合计（元）"),
                ("due_cny", "due, CNY", "应付（元）"),
                ("state", "state", "状态"),
                ("paid_at", "paid", "支付时间"),
                ("reference", "reference", "参考号"),
                ("refunded_cny", "refunded, CNY", "退款（元）"),
            ],
            List::Usage => &[
                ("contract_no", "contract", "合约"),
                ("node", "node", "节点"),
                ("resource", "resource", "资源"),
                ("quantity", "quantity", "用量"),
                ("unit", "unit", "单位"),
                ("until", "until", "截至"),
            ],
            List::Notices => &[
                ("contract_no", "contract", "合约"),
                ("node", "node", "节点"),
                ("act", "act", "操作"),
                ("made_at", "made", "时间"),
                ("answer", "answer", "应答"),
                ("why", "why", "原因"),
            ],
            List::Alarms => {
                &[("at", "at", "时间"), ("node", "node", "节点"), ("code", "code", "代码"), ("detail", "what", "内容")]
            }
            List::Invoices => &[
                ("at", "at", "时间"),
                ("bill_no", "bill", "账单"),
                ("state", "state", "状态"),
                ("invoice", "invoice", "发票号"),
                ("amount_cny", "amount, CNY", "金额（元）"),
                ("note", "note", "备注"),
            ],
            List::Shops => &[
                ("node", "node", "节点"),
                ("name", "shop", "店铺"),
                ("contact", "contact", "联系方式"),
                ("credit_code", "credit code", "统一社会信用代码"),
                ("qualifications", "qualifications", "资质"),
                ("products", "products", "产品"),
                ("listed", "on sale", "上架"),
            ],
            List::Forks => &[
                ("number", "proof", "证明"),
                ("node", "node", "节点"),
                ("log", "log", "账本"),
                ("at", "since", "时间"),
            ],
            List::Accounts => &[
                ("user", "user", "用户"),
                ("roles", "roles", "角色"),
                ("state", "state", "状态"),
                ("changed_at", "changed", "变更时间"),
                ("told", "nodes told", "已同步节点"),
                ("nodes", "of", "应同步节点"),
            ],
            List::Operations => &[
                ("number", "number", "序号"),
                ("at", "at", "时间"),
                ("operator", "who", "操作者"),
                ("act", "act", "操作"),
                ("about", "about", "对象"),
                ("why", "why", "说明"),
            ],
            List::Delistings => &[
                ("node", "node", "节点"),
                ("product", "product", "产品"),
                ("at", "since", "时间"),
                ("why", "why", "原因"),
            ],
        }
    }

    /// The rows, as the API and JSON show them.
    async fn rows(self, db: &mut AnyConnection) -> Result<Rows, crate::error::Error> {
        Ok(match self {
            List::Nodes => Rows::Nodes(list::nodes(db).await?),
            List::Products => Rows::Products(list::products(db).await?),
            List::Orders => Rows::Orders(list::orders(db).await?),
            List::Bills => Rows::Bills(list::bills(db).await?),
            List::Usage => Rows::Usage(list::usage(db).await?),
            List::Notices => Rows::Notices(list::notices(db).await?),
            List::Alarms => Rows::Alarms(list::alarms(db).await?),
            List::Invoices => Rows::Invoices(invoice::all(db).await?),
            List::Shops => Rows::Shops(list::shops(db).await?),
            List::Delistings => Rows::Delistings(delisting::all(db).await?),
            List::Forks => Rows::Forks(fork::all(db).await?),
            List::Accounts => Rows::Accounts(account::all(db).await?),
            List::Operations => Rows::Operations(operation::newest(db, None).await?),
        })
    }
}

/// Rows of one list; in JSON only the list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Rows {
    /// See [`List::Nodes`].
    Nodes(Vec<list::NodeRow>),
    /// See [`List::Products`].
    Products(Vec<list::ProductRow>),
    /// See [`List::Orders`].
    Orders(Vec<list::OrderRow>),
    /// See [`List::Bills`].
    Bills(Vec<list::BillRow>),
    /// See [`List::Usage`].
    Usage(Vec<list::UsageRow>),
    /// See [`List::Notices`].
    Notices(Vec<list::NoticeRow>),
    /// See [`List::Alarms`].
    Alarms(Vec<list::AlarmRow>),
    /// See [`List::Invoices`].
    Invoices(Vec<invoice::InvoiceRow>),
    /// See [`List::Shops`].
    Shops(Vec<list::ShopRow>),
    /// See [`List::Delistings`].
    Delistings(Vec<delisting::DelistingRow>),
    /// See [`List::Forks`].
    Forks(Vec<fork::ForkRow>),
    /// See [`List::Accounts`].
    Accounts(Vec<account::AccountRow>),
    /// See [`List::Operations`].
    Operations(Vec<operation::OperationRow>),
}

/// Reads a list and shows it.
pub(super) async fn show(list: List, place: &DirArgs, context: &Context) -> Outcome {
    let rows = read(list, place).await?;
    let table = if context.json { String::new() } else { table(list.columns(), &rows, context.lang)? };
    context.show(&BTreeMap::from([(list.name(), rows)]), || table)?;
    Ok(Exit::Done)
}

/// The rows of a directory's database.
pub(super) async fn read(list: List, place: &DirArgs) -> Result<Rows, Failure<Text>> {
    let place = place.place()?;
    let store = open(&place).await?;
    let read = async {
        let mut tx = store.read().await?;
        list.rows(&mut tx).await
    };
    let rows = read.await;
    store.close().await;
    rows.map_err(|error| failed(&place, &error))
}

/// The rows as a table for a person.
pub(super) fn table(columns: &[Column], rows: &Rows, lang: Lang) -> Result<String, Failure<Text>> {
    let rows = serde_json::to_value(rows).map_err(|error| bug(&error))?;
    let rows = rows.as_array().filter(|rows| !rows.is_empty());
    let Some(rows) = rows else { return Ok(Text::Nothing {}.render(lang)) };
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(columns.iter().map(|(_, en, zh)| match lang {
        Lang::En => *en,
        Lang::Zh => *zh,
    }));
    for row in rows {
        table.add_row(columns.iter().map(|(field, ..)| cell(row.get(field))));
    }
    Ok(table.to_string())
}

/// A value as a person reads it. Nodes write part of what is shown here: a control character must not reach a terminal.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.chars().map(|found| if found.is_control() { '\u{fffd}' } else { found }).collect()
}
