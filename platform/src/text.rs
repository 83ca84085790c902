//! Every message `hufu-platform` shows a person, English and Chinese in one table. Log lines are not messages: they are
//! constant lower-case English with fields.

hufu_audit::texts! {
    FileUnreadable { path, why } => "cannot read {path}: {why}; check the path and its permissions", "无法读取 {path}：{why}；请检查路径和权限";
    FileUnwritable { path, why } => "cannot write {path}: {why}; choose another place or free it", "无法写入 {path}：{why}；请另选位置或释放空间";
    DirUnwritable { path, why } => "cannot use directory {path}: {why}; choose a directory this user may write", "无法使用目录 {path}：{why}；请选择当前用户可写的目录";
    KeyFileMode { path, mode } => "key file {path} has mode {mode}, others can read it; run: chmod 600 {path}", "密钥文件 {path} 的权限为 {mode}，他人可读；请执行：chmod 600 {path}";
    ConfigWrong { path, why } => "{path}: {why}", "{path} 有误：{why}";
    NotNamed { path, subject, party, dns } => "{path}: the certificate is of {subject}; it must name {party}: common name {party} or DNS name {dns}", "{path} 有误：证书属于 {subject}，须指明 {party}：通用名为 {party} 或 DNS 名为 {dns}";
    NoDatabase { path } => "no database at {path}; start hufu-platform serve with this directory first", "{path} 处没有数据库；请先用该目录启动 hufu-platform serve";
    Database { path, why } => "database {path}: {why}", "数据库 {path}：{why}";
    PortInUse { address, why } => "cannot listen on {address}: {why}; choose another port or free it", "无法监听 {address}：{why}；请换用其他端口或释放该端口";
    UnknownArgument { argument } => "unknown argument {argument}; see --help", "未知参数 {argument}；请看 --help";
    UnknownCommand { name } => "unknown command {name}; see --help", "未知命令 {name}；请看 --help";
    CommandMissing {} => "which command? see --help", "缺少命令；请看 --help";
    ArgumentMissing { argument } => "missing argument {argument}; see --help", "缺少参数 {argument}；请看 --help";
    ArgumentValue { argument, value, expected } => "{argument}: {value:?} does not fit: {expected}", "{argument}：{value:?} 不符合要求：{expected}";
    ArgumentTwice { argument } => "{argument} is given twice", "{argument} 重复给出";
    ArgumentConflict { argument, other } => "{argument} cannot be used with {other}", "{argument} 不能与 {other} 同时使用";
    Usage { why } => "{why}; see --help", "{why}；请看 --help";
    Bug { why } => "internal error: {why}; please report it with the command line", "内部错误：{why}；请连同命令行一起报告";
    UnknownBill { number } => "no bill {number} here; `hufu-platform bills` lists them", "没有账单 {number}；请用 hufu-platform bills 查看";
    BillRefused { number } => "bill {number} was refused and is in dispute; it cannot be paid", "账单 {number} 已被拒绝并处于争议中，不能支付";
    WrongAmount { number, due, amount } => "bill {number} asks for {due} CNY, not {amount} CNY; pay exactly what is due", "账单 {number} 应付 {due} 元，而不是 {amount} 元；请按应付金额支付";
    NotPayable { number, state } => "bill {number} cannot be paid while its contract is {state}; settle the dispute first", "合约处于 {state} 状态时账单 {number} 不能支付；请先解决争议";
    NotPaid { number } => "bill {number} was not paid; there is nothing to refund", "账单 {number} 尚未支付，无可退款";
    NothingOver { number } => "nothing was paid above what bill {number} asks for; there is nothing to refund", "账单 {number} 没有多付，无可退款";
    WrongRefund { number, over, amount } => "{over} CNY were paid above bill {number}, not {amount} CNY; refund exactly that", "账单 {number} 多付 {over} 元，而不是 {amount} 元；请按多付金额退款";
    RefundedOtherwise { number, reference } => "bill {number} is already refunded with reference {reference}", "账单 {number} 已退款，参考号 {reference}";
    NotRefundable { number, state } => "bill {number} cannot be refunded while its contract is {state}; the site corrects it first", "合约处于 {state} 状态时账单 {number} 不能退款；须先由站点更正账单";
    Refunded { number, amount } => "bill {number} refunded: {amount} CNY", "账单 {number} 已退款：{amount} 元";
    UnknownContract { contract } => "no contract {contract} here; `hufu-platform orders` lists them", "没有合约 {contract}；请用 hufu-platform orders 查看";
    NoSuchAct { act, state } => "the platform has no act {act} in a contract that is {state}; see the contract's rule table", "合约处于 {state} 状态时平台没有操作 {act}；请看该合约的规则表";
    NoticeWaits { contract, act } => "contract {contract} has a notice to {act} that its node has not answered yet; see hufu-platform notices", "合约 {contract} 已有一份 {act} 通知尚未得到节点应答；请看 hufu-platform notices";
    NoticeKept { contract, act } => "notice to {act} contract {contract} kept; serve sends it, hufu-platform notices shows the answer", "对合约 {contract} 的 {act} 通知已登记；由 serve 发送，应答请看 hufu-platform notices";
    NotMoney { amount } => "{amount} is not an amount in CNY, for example 12.30", "{amount} 不是人民币金额，例如 12.30";
    PaidOtherwise { number, reference } => "bill {number} is already paid with reference {reference}", "账单 {number} 已支付，参考号 {reference}";
    PackIncomplete { number, why } => "bill {number} has no complete pack yet: {why}", "账单 {number} 的证据包尚不完整：{why}";
    UnknownParent { number } => "no parent order {number} here; `hufu-platform parents` lists them", "没有父订单 {number}；请用 hufu-platform parents 查看";
    ParentTwice { number } => "two buyers use the parent number {number}; say which one with --buyer", "有两个买方使用父订单编号 {number}；请用 --buyer 指明";
    PaidByChild { number } => "parent order {number} is paid child by child; pay the children's bills", "父订单 {number} 按子订单支付；请支付各子订单的账单";
    PaidThroughParent { number, parent } => "bill {number} is paid through its parent order only; run: hufu-platform pay {parent}", "账单 {number} 只能通过父订单支付；请执行：hufu-platform pay {parent}";
    ParentWrong { number, why } => "parent order {number} cannot be added up: {why}", "父订单 {number} 无法汇总：{why}";
    NothingOpen { number } => "nothing is open of parent order {number}", "父订单 {number} 没有未付款项";
    PaidParent { number, amount } => "parent order {number} paid with all its children: {amount} CNY", "父订单 {number} 及其全部子订单已支付：{amount} 元";
    ParentLine { number, level, children, open } => "{number}: payable {level}, {children} children, open {open} CNY", "{number}：支付层级 {level}，子订单 {children}，未付 {open} 元";
    ParentTotal { total } => "total {total} CNY", "合计 {total} 元";
    ParentChild { contract, node, state } => "{contract} at {node}: {state}", "{contract}，节点 {node}：{state}";
    ParentPaid { number, due } => "{number}: {due} CNY, paid", "{number}：{due} 元，已支付";
    ParentOpen { number, due } => "{number}: {due} CNY, open", "{number}：{due} 元，未支付";
    Paid { number, amount } => "bill {number} paid: {amount} CNY", "账单 {number} 已支付：{amount} 元";
    Ready { http, broker } => "ready: http {http}, broker {broker}", "已就绪：http {http}，消息代理 {broker}";
    FocusWritten { path, count } => "{count} bills in {path}", "{count} 份账单已写入 {path}";
    Nothing {} => "nothing yet", "暂无数据";
}
