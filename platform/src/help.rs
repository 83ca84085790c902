//! The Chinese help. The English help is the doc comments beside the flags; here each of them has its translation, and a test
//! knows when one is missing.

use clap::{Arg, Command, builder::StyledStr};

/// English help, Chinese help.
const TABLE: &[(&str, &str)] = &[
    (
        "The reference operations platform: takes products, orders, usage and bills, answers with signed receipts",
        "参考运营平台：接收产品、订单、用量和账单，以签名回执应答",
    ),
    ("One JSON object on stdout; messages go to stderr", "标准输出为一个 JSON 对象；消息写到标准错误"),
    ("Language of messages: en or zh; default from the locale", "消息语言：en 或 zh；默认取自系统区域设置"),
    ("Run the platform", "运行平台"),
    ("Completions for a shell, on standard output", "在标准输出写出命令行补全脚本"),
    ("Which shell", "哪种 shell"),
    ("List proofs against nodes that showed two pasts of a log", "列出对出示两种账本历史的节点的分叉证明"),
    (
        "Where the operator's own system is told when an order or a bill changed: http://HOST[:PORT][/PATH]",
        "订单或账单变更时通知运营方自有系统的地址：http://HOST[:PORT][/PATH]",
    ),
    (
        "Make or change a user's account; serve signs it and tells the nodes",
        "新建或变更用户账户；由 serve 签名并同步给节点",
    ),
    ("List the users' accounts", "列出用户账户"),
    (
        "List what users did here, newest first, or check the chain of it",
        "列出用户在平台上的操作记录（最新在前），或校验其链",
    ),
    (
        "The user: the id of its certificate, 64 hexadecimal digits (hufu cert show)",
        "用户：其证书标识，64 位十六进制（见 hufu cert show）",
    ),
    (
        "What the user may do: buyer, operator, provider, with commas between them; without it as before, buyer for a new one",
        "用户的角色：buyer、operator、provider，以逗号分隔；缺省保持不变，新账户为 buyer",
    ),
    (
        "Whether it may: active, suspended or closed; without it as before",
        "账户状态：active、suspended 或 closed；缺省保持不变",
    ),
    (
        "Tell this node, SITE/NODE, too; may be given several times. Nodes where the user came to buy are told anyway",
        "另外同步给此节点 SITE/NODE，可多次给出；用户浏览过的节点总会得到同步",
    ),
    ("Why, for the record", "原因，记入操作记录"),
    (
        "Check the whole chain: numbers without gaps, hashes, signatures under the certificates of --cert",
        "校验整条链：序号连续、哈希相接、签名出自 --cert 的证书",
    ),
    (
        "The platform's certificate (PEM), the first of the file; for the check, once for each that it ever had",
        "平台证书（PEM，取文件中的第一张），用于校验；平台用过的每张证书各给一次",
    ),
    ("List the shops of the nodes", "列出各节点的店铺"),
    ("Take a product of a node, or its whole shop, off sale", "将节点的某一产品或整个店铺下架"),
    ("Put it on sale again", "重新上架"),
    ("List what is taken off sale", "列出已下架的产品与店铺"),
    ("The product; without it the node's whole shop", "产品；缺省为节点的整个店铺"),
    ("Why, for the site", "原因，供站点查阅"),
    ("Compare the books of this platform with those of a node over a period", "核对平台与某一节点在某一期间的账目"),
    ("The node, SITE/NODE", "节点，SITE/NODE"),
    (
        "Month YYYY-MM, day YYYY-MM-DD, or two times of RFC 3339 in UTC with / between them",
        "月份 YYYY-MM、日期 YYYY-MM-DD，或以 / 分隔的两个 UTC 时间（RFC 3339）",
    ),
    ("Time zone of months and days", "月份与日期所用的时区"),
    ("Answer the node's statement in this file; its signature is checked", "应答此文件中节点的对账单；并验证其签名"),
    ("File to write: the pair of signed statements", "写入的文件：一对已签名的对账单"),
    (
        "Directory of this process, and of the database unless it is PostgreSQL; made if it is not there",
        "本进程的目录，未用 PostgreSQL 时也是数据库目录；不存在则新建",
    ),
    (
        "PostgreSQL database, which several workers may share: postgresql://USER:PASSWORD@HOST:PORT/DATABASE; others see it, rather use the file",
        "PostgreSQL 数据库，可由多个工作进程共用：postgresql://用户:口令@主机:端口/数据库；他人可见，宜用文件",
    ),
    (
        "PostgreSQL database, as given to serve: postgresql://USER:PASSWORD@HOST:PORT/DATABASE; others see it, rather use the file",
        "PostgreSQL 数据库，与 serve 所用相同：postgresql://用户:口令@主机:端口/数据库；他人可见，宜用文件",
    ),
    (
        "File that holds the URL of the PostgreSQL database; without either, HUFU_DATABASE_URL counts",
        "存放 PostgreSQL 数据库 URL 的文件；两者都未给出时取 HUFU_DATABASE_URL",
    ),
    (
        "On PostgreSQL: seconds after which the others take over the nodes of a worker that vanished",
        "使用 PostgreSQL 时：工作进程消失多少秒后由其他进程接管其节点",
    ),
    ("The site this platform serves, 1 to 64 of a-z 0-9 _ -", "本平台服务的站点，1 至 64 个 a-z 0-9 _ - 字符"),
    (
        "The platform's secret key file, or credential:NAME for one that systemd hands over",
        "平台私钥文件，或以 credential:NAME 指明由 systemd 提供的凭据",
    ),
    (
        "File with the password of an encrypted key in one line, mode 0600, or credential:NAME",
        "存放加密私钥口令的文件（一行，权限 0600），或 credential:NAME",
    ),
    ("The platform's certificate chain (PEM), leaf first", "平台证书链（PEM），终端证书在前"),
    ("Trust anchors for nodes and buyers (PEM); may be given several times", "节点和买方的信任锚（PEM）；可多次给出"),
    (
        "Address of the HTTP API for buyers; port 0 lets the kernel choose",
        "面向买方的 HTTP 接口地址；端口 0 由内核分配",
    ),
    ("The MQTT broker", "MQTT 消息代理"),
    ("Who the platform is at the broker", "平台在消息代理处的用户名"),
    ("File of that name's password, for the owner alone", "该用户名的口令文件，仅所有者可读"),
    (
        "Whom to believe that it is the broker (PEM); without it the line is open",
        "消息代理的信任锚（PEM）；缺省时链路不加密",
    ),
    (
        "The platform's certificate chain for the broker (PEM), leaf first",
        "平台用于消息代理的证书链（PEM），终端证书在前",
    ),
    ("Its key", "其私钥"),
    (
        "Time-stamping service (RFC 3161) that is asked when receipts existed: http://HOST[:PORT][/PATH]",
        "时间戳服务（RFC 3161），用于证明收条的存在时间：http://HOST[:PORT][/PATH]",
    ),
    ("Seconds between two time-stamps of one log", "同一账本两次时间戳之间的秒数"),
    ("Take messages of nodes that show no token, too", "也接受未出示令牌的节点消息"),
    ("Run an MQTT broker inside; it keeps nothing on disk", "在进程内运行 MQTT 消息代理；不在磁盘保存任何内容"),
    ("Address of the broker inside; port 0 lets the kernel choose", "内置消息代理的地址；端口 0 由内核分配"),
    ("List the nodes", "列出节点"),
    ("List what the nodes sell", "列出节点出售的产品"),
    ("List the contracts", "列出合约"),
    ("List the bills and their payments, or write them as FOCUS", "列出账单及其支付，或以 FOCUS 格式写出"),
    ("Record what is done about a bill's invoice", "登记账单发票的办理情况"),
    ("List what was done about invoices", "列出发票的办理情况"),
    ("Record that the buyer wants an invoice", "登记买方申请开票"),
    ("Whom it is made out to", "发票抬头"),
    ("Record that the invoice was issued", "登记发票已开具"),
    ("The invoice's own number", "发票号码"),
    ("Record that the invoice was reversed", "登记发票已冲红"),
    ("Why", "原因"),
    ("Write them as CSV in the FinOps billing format FOCUS", "以 FinOps 账单格式 FOCUS 写成 CSV"),
    ("Only bills of this month, by the calendar of their tariff", "仅限本月账单，按其资费的日历"),
    ("Where the file goes; one that is there is replaced", "文件的去处；已有文件将被替换"),
    ("List what each contract used", "列出各合约的用量"),
    ("List what somebody must look at", "列出需要人工查看的告警"),
    (
        "Record that a bill was paid, or with a parent order all its children",
        "登记账单已支付，或父订单及其全部子订单已支付",
    ),
    ("List the parent orders, their children and what is open", "列出父订单、其子订单及未付款项"),
    ("The bill's number, or that of a parent order", "账单编号或父订单编号"),
    (
        "Certificate id of the buyer, where two use one parent number",
        "买方证书标识；用于两个买方使用同一父订单编号的情形",
    ),
    ("Write the evidence pack of a bill", "写出账单的证据包"),
    ("Directory of the platform, as given to serve", "平台目录，与 serve 所用相同"),
    ("The bill's number", "账单编号"),
    ("Where the pack goes; a file that is there is replaced", "证据包的去处；已有文件将被替换"),
    ("What was paid: exactly what is due", "支付金额：须等于应付金额"),
    ("What went back: exactly what was paid above what is due", "退款金额：须等于多付金额"),
    ("Record that what was paid above a corrected bill went back", "登记更正后多付的款项已退还"),
    ("Move a contract in the platform's name", "以平台名义推动合约"),
    ("List the platform's notices and their answers", "列出平台的通知及其应答"),
    ("The contract's number, 32 hexadecimal digits", "合约编号，32 个十六进制数字"),
    (
        "What the platform does: an act of the contract's rule table, for example revoke or uphold",
        "平台的操作：合约规则表中的操作，例如 revoke 或 uphold",
    ),
    ("Why, for the buyer and the site", "原因，供买方和站点阅读"),
    ("The bill it is about, if it is about one", "所涉及的账单（如有）"),
    ("What the payment is known by, for example the bank's reference", "支付的标识，例如银行流水号"),
    ("Also end when standard input does: never outlive the parent", "标准输入结束时也结束：不比父进程活得更久"),
];

fn translated(english: Option<&StyledStr>) -> Option<&'static str> {
    let english = english?.to_string();
    TABLE.iter().find(|(text, _)| *text == english).map(|(_, chinese)| *chinese)
}

fn argument(arg: Arg) -> Arg {
    let heading = if arg.is_positional() { "参数" } else { "选项" };
    let help = translated(arg.get_help());
    let arg = arg.help_heading(heading);
    match help {
        Some(help) => arg.help(help),
        None => arg,
    }
}

/// The same commands with Chinese help.
pub(crate) fn in_chinese(command: Command) -> Command {
    let about = translated(command.get_about());
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    let mut command = command.mut_args(argument).subcommand_help_heading("命令");
    command = command.help_template("{about}\n\n用法：{usage}\n\n{all-args}");
    if let Some(about) = about {
        command = command.about(about);
    }
    for name in names {
        command = command.mut_subcommand(name, in_chinese);
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn missing(command: &Command, found: &mut Vec<String>) {
        let helps = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_help);
        for english in command.get_about().into_iter().chain(helps) {
            if translated(Some(english)).is_none() {
                found.push(english.to_string());
            }
        }
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            missing(inner, found);
        }
    }

    #[test]
    fn every_help_text_has_its_chinese() {
        let mut found = Vec::new();
        missing(&crate::cli::Cli::command(), &mut found);
        assert!(found.is_empty(), "add to TABLE in help.rs: {found:#?}");
    }
}
