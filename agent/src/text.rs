//! Every message `hufu` shows a person, English and Chinese in one table. Log lines are not messages: they are constant
//! lower-case English with fields.

hufu_audit::texts! {
    FileUnreadable { path, why } => "cannot read {path}: {why}; check the path and its permissions", "无法读取 {path}：{why}；请检查路径和权限";
    FileUnwritable { path, why } => "cannot write {path}: {why}; choose another place or free it", "无法写入 {path}：{why}；请另选位置或释放空间";
    Malformed { path, why } => "{path} is malformed: {why}", "{path} 格式错误：{why}";
    KeyFileMode { path, mode } => "key file {path} has mode {mode}, others can read it; run: chmod 600 {path}", "密钥文件 {path} 的权限为 {mode}，他人可读；请执行：chmod 600 {path}";
    LedgerInUse { path } => "ledger {path} is in use by another process; stop it first", "账本 {path} 正被另一进程使用；请先停止该进程";
    ConfigWrong { path, why } => "configuration {path}: {why}", "配置 {path} 有误：{why}";
    NotNamed { path, subject, party, dns } => "{path}: the certificate is of {subject}; it must name {party}: common name {party} or DNS name {dns}", "{path} 有误：证书属于 {subject}，须指明 {party}：通用名为 {party} 或 DNS 名为 {dns}";
    Unreachable { what, why } => "cannot reach {what}: {why}; is it running?", "无法连接 {what}：{why}；它在运行吗？";
    Usage { why } => "{why}; see --help", "{why}；请看 --help";
    Bug { why } => "internal error: {why}; please report it with the command line", "内部错误：{why}；请连同命令行一起报告";
    LedgerFailed { path, why } => "ledger {path}: {why}; run: hufu ledger check {path}", "账本 {path}：{why}；请运行：hufu ledger check {path}";
    MeterFailed { why } => "cannot meter this server: {why}", "无法计量本服务器：{why}";
    Interrupted {} => "interrupted", "已中断";

    // The command line.
    UnknownArgument { argument } => "unknown argument {argument}; see --help", "未知参数 {argument}；请看 --help";
    UnknownCommand { name } => "unknown command {name}; see --help", "未知命令 {name}；请看 --help";
    CommandMissing {} => "which command? see --help", "缺少命令；请看 --help";
    ArgumentMissing { argument } => "missing argument {argument}; see --help", "缺少参数 {argument}；请看 --help";
    ArgumentValue { argument, value, expected } => "{argument}: {value:?} does not fit: {expected}", "{argument}：{value:?} 不符合要求：{expected}";
    ArgumentTwice { argument } => "{argument} is given twice", "{argument} 重复给出";
    ArgumentConflict { argument, other } => "{argument} cannot be used with {other}", "{argument} 不能与 {other} 同时使用";
    KeyMade { path } => "key written to {path}; keep it secret, it is never sent anywhere", "密钥已写入 {path}；请妥善保管，它不会被发送到任何地方";
    CertificateMade { path, subject } => "certificate of {subject} written to {path}", "{subject} 的证书已写入 {path}";

    // The buyer.
    OfferGood { product, node, until, prices } => "offer for {product} from {node}, signature and chain checked, valid until {until}{prices}", "{node} 对 {product} 的报价，签名与证书链已验证，有效期至 {until}{prices}";
    PrepaidPrice { price } => "prepaid: {price} CNY for the whole term", "预付：整个期限 {price} 元";
    NotPrepaid { why } => "this offer cannot be prepaid: {why}; order with --ceiling", "该报价不可预付：{why}；请用 --ceiling 下单";
    DealGood { contract, node, end } => "deal: contract {contract} with {node}, countersignature checked, service until {end}", "成交：与 {node} 的合约 {contract}，会签已验证，服务至 {end}";
    ChangeGood { act, contract } => "the node recorded {act} of contract {contract}", "节点已记录合约 {contract} 的操作 {act}";
    Corrected { number, before, total } => "correction {number} recorded: {total} CNY due, {before} before", "更正 {number} 已记录：应付 {total} 元，原为 {before} 元";
    Erased { contract } => "what was personal of contract {contract} is erased on this node; hashes and proofs stay. Copies elsewhere are not reached", "合约 {contract} 的个人数据已在本节点清除；哈希与证明不变。其他地方的副本不受影响";
    SealedShown { count, why } => "{count} personal entries stay sealed: reading them must be recorded, and {why}", "{count} 条个人数据条目保持密封：读取须留痕，而 {why}";
    ErasedBill { number } => "the contract of bill {number} was erased on this node: no pack can be made of it here; the platform and the buyer keep theirs", "账单 {number} 的合约数据已在本节点清除，此处无法再生成证据包；平台与买方仍持有各自的副本";
    ScoreGood { overall } => "score recorded, overall {overall}", "评分已记录，总分 {overall}";
    PackWritten { path } => "evidence pack written to {path}; check it with: hufu verify {path} --trust CA.pem", "证据包已写入 {path}；验证命令：hufu verify {path} --trust CA.pem";
    RequestWritten { path } => "request written to {path}; give it to the node and read its answer with --in", "请求已写入 {path}；请交给节点，并用 --in 读取应答";
    BillNumber { number } => "{number:?} is not a bill number", "{number:?} 不是账单编号";
    PaperMissing { path } => "{path} is not there; browse comes before order, order before score", "缺少 {path}；先浏览，再下单，再评分";
    PaperThere { path } => "{path} is already there; use another --state directory for another contract", "{path} 已存在；新合约请另选 --state 目录";
    Refused { code, remedy } => "refused ({code}): {remedy}", "被拒绝（{code}）：{remedy}";
    OfferChain { why } => "not signing: the node's certificate is not trusted: {why}", "拒绝签名：节点证书不受信任：{why}";
    OfferNode { name, pool } => "not signing: the certificate is that of {name}, not of {pool}", "拒绝签名：证书属于 {name}，而非 {pool}";
    OfferSignature {} => "not signing: the offer's signature is not the node's", "拒绝签名：报价的签名不是该节点的签名";
    OfferField { field } => "not signing: the offer's {field} is not what was asked", "拒绝签名：报价的 {field} 与请求不符";
    OfferExpired { until } => "not signing: the offer ended at {until}; browse again", "拒绝签名：报价已于 {until} 失效；请重新浏览";
    OfferEarly { from } => "not signing: the offer begins only at {from}; check the clock", "拒绝签名：报价自 {from} 起才有效；请检查时钟";
    OfferTariff { why } => "not signing: the price terms cannot be rated: {why}", "拒绝签名：价格条款无法计费：{why}";
    OfferRules { why } => "not signing: the rule table is not the one the offer names: {why}", "拒绝签名：规则表与报价所载不符：{why}";
    OfferStock { wanted, stock } => "not signing: {wanted} units wanted, {stock} offered", "拒绝签名：需要 {wanted} 份，仅提供 {stock} 份";
    OfferTerm { wanted, max } => "not signing: a term of {wanted} s is wanted, at most {max} s offered", "拒绝签名：需要 {wanted} 秒，最多提供 {max} 秒";
    DealField { field } => "the deal does not hold: {field} is not that of the order", "成交无效：{field} 与订单不符";
    ScoreItems { names } => "one score for each of: {names}", "请为以下各项分别评分：{names}";

    // Metering one workload.
    CommandNotRun { command, why } => "cannot run {command}: {why}; check its name and permissions", "无法运行 {command}：{why}；请检查名称和权限";
    NoProcess { pid } => "cannot meter process {pid}: there is none; check the number", "无法计量进程 {pid}：不存在；请检查进程号";
    NoCgroup { path } => "cannot meter cgroup {path}: no hierarchy that meters has it; check the path", "无法计量控制组 {path}：不存在；请检查路径";
    NoMeter { why } => "cannot meter here: {why}", "此处无法计量：{why}";
    MeterTarget {} => "what shall be metered? give -- CMD.., --pid P or --cgroup PATH --seconds N", "要计量什么？请给出 -- CMD..、--pid P 或 --cgroup PATH --seconds N";
    MeterTree { why } => "no own cgroup ({why}): metering the process tree, CPU as a lower bound", "没有独立控制组（{why}）：改为计量进程树，CPU 为下限值";
    PlaceStays { why } => "the workload's cgroup stays, processes are left in it: {why}", "控制组中仍有进程，予以保留：{why}";
    MeterColumns {} => "resource|quantity|unit|about|status|reason", "资源|数量|单位|约合|状态|原因";
    MeterSummary { source, duration } => "metered {duration} by {source}", "计量 {duration}，来源 {source}";
    MeterExit { status } => "exit status {status}", "退出状态 {status}";
    MeterCost { cost } => "cost {cost} CNY", "费用 {cost} 元";
    MeterGap { start, end, why } => "not measured from {start} to {end}: {why}", "{start} 至 {end} 未计量：{why}";
    CapacityColumns {} => "resource|unit|metered by|why not", "资源|单位|计量来源|不可计量的原因";
    CapacityCpu { count, model } => "CPU: {count} x {model}", "CPU：{count} x {model}";
    CapacityMemory { total, available } => "memory: {total}, {available} available", "内存：{total}，可用 {available}";
    CapacityDisk { mount, kind, total, available } => "filesystem {mount} ({kind}): {total}, {available} available", "文件系统 {mount}（{kind}）：{total}，可用 {available}";
    CapacityInterface { name, speed } => "network {name}: {speed}", "网络 {name}：{speed}";
    CapacityGpus { count, driver } => "GPUs: {count}, NVIDIA driver {driver}", "GPU：{count} 个，NVIDIA 驱动 {driver}";
    CapacityGpu { index, name, memory, id } => "GPU {index} {name}: {memory}, {id}", "GPU {index} {name}：{memory}，{id}";
    CapacityGpuTrouble { index, why } => "GPU {index}: {why}", "GPU {index}：{why}";
    CapacityNoGpu { why } => "no GPU: {why}", "没有 GPU：{why}";
    CapacityGpusUnknown { why } => "GPUs not known: {why}", "GPU 情况未知：{why}";
    CapacityCgroups { mode } => "cgroups: {mode}", "控制组：{mode}";
    // Ledger and firmware.
    LedgerMissing { path } => "there is no ledger in {path}; name its directory, or make one with: hufu init", "{path} 中没有账本；请指定账本目录，或用 hufu init 新建";
    LedgerThere { path } => "there is a ledger in {path} already; nothing was changed", "{path} 中已有账本；未作任何更改";
    LedgerDamaged { path, why } => "ledger {path} is damaged: {why}; see: hufu ledger check {path}", "账本 {path} 已损坏：{why}；请执行：hufu ledger check {path}";
    LedgerChecked { entries, signatures, problems } => "{entries} entries, {signatures} good signatures, {problems} problems", "{entries} 个条目，{signatures} 个有效签名，{problems} 个问题";
    LedgerFirstBad { log, height } => "first bad block: {log} height {height}", "首个异常区块：{log} 高度 {height}";
    LedgerExported { path, blocks, entries } => "{blocks} blocks and {entries} entries written to {path}", "已将 {blocks} 个区块和 {entries} 个条目写入 {path}";
    SelfConsistentOnly {} => "self-consistent only: without --trust no signature is checked", "仅自洽：未给出 --trust，不检查签名";
    RiskGiven { share, blocks, needed } => "the attacker makes the next block with probability β = {share} (α = 1 − β); the trade has n = {blocks} blocks, the attacker needs m = {needed}", "攻击方制造下一个区块的概率 β = {share}（α = 1 − β）；交易有 n = {blocks} 个区块，攻击方需要 m = {needed} 个";
    RiskPrinted { number, formula, value } => "as printed, formula ({number}): P = {formula} = {value}", "按原文公式（{number}）：P = {formula} = {value}";
    RiskUndefined {} => "as printed: not defined, the paper presupposes α > β", "按原文：无定义，论文以 α > β 为前提";
    RiskReading { formula, value } => "our reading: P = {formula} = {value}", "我们的理解：P = {formula} = {value}";
    RiskWhy {} => "why another reading: in Nakamoto's formula, where this comes from, the two cases are those of each i (up to n the attacker still has n − i blocks to catch up, beyond n it has won) and i = 0 counts too; printed they hang on m, and the chance does not fall with n for m = n, as the paper says it does; for α ≤ β the chance is 1", "为何另作理解：该式源自中本聪的公式，其中两种情形按每个 i 区分（i 不超过 n 时攻击方还差 n − i 个区块，超过 n 时已成功），且 i = 0 也计入；原文改按 m 区分，当 m = n 时概率并不如论文所述随 n 减小；α ≤ β 时概率为 1";
    RiskDefence {} => "Hufu does not rest on this: each node is the only writer of its log, so there is no race; the platform's signed receipts witness what was signed, and two signed headers of one height prove a fork", "Hufu 不以此为依据：每个节点是其账本的唯一写入者，不存在竞争；已签内容由平台签署的收条见证，同一高度的两个已签区块头即为分叉证明";
    CostColumns {} => "block|bytes|make and sign, ns|verify, ns|on the line, s", "区块|字节|生产与签名（纳秒）|验证（纳秒）|传输（秒）";
    CostGiven { repeat, nodes } => "medians of {repeat} blocks of each type, made and verified in memory; δ = {nodes}, the nodes each block is sent to; ε = 1, they validate side by side", "每种区块在内存中生产并验证 {repeat} 次取中位数；δ = {nodes}，即每个区块发往的节点数；ε = 1，各节点同时验证";
    CostPrinted { production, validation, total } => "as printed, formulas (3) to (5): Tpro = Σ δ·D/W = {production} s, Tval = Σ ε·t = {validation} s, T = {total} s", "按原文公式（3）至（5）：Tpro = Σ δ·D/W = {production} 秒，Tval = Σ ε·t = {validation} 秒，T = {total} 秒";
    CostReading { making, production, validation, total } => "our reading: the print counts production on the line only; with making and signing {making} s, the line {production} s, validation {validation} s: T = {total} s", "我们的理解：原文的生产时间只含传输；计入生产与签名 {making} 秒、传输 {production} 秒、验证 {validation} 秒：T = {total} 秒";
    SignerUntrusted { path } => "{path} is not signed by a certificate of this ledger that the trust anchors reach", "{path} 的签名证书不在本账本中，或不被信任锚认可";
    NoEntry { index, height } => "block {height} has no entry {index}", "区块 {height} 中没有条目 {index}";
    FirmwareRefused { path, why } => "image {path} does not count: {why}", "镜像 {path} 无效：{why}";
    SignatureUnchecked {} => "signature not checked: give --signer", "未检查签名：请给出 --signer";
    // A node's command line.
    ConfigGood { path, node } => "{path} is good: node {node}", "{path} 正确：节点 {node}";
    NodeStatus { node, link, logs, alarms } => "node {node}, broker {link}; blocks (receipted): {logs}; alarms: {alarms}", "节点 {node}，消息代理{link}；区块数（已回执）：{logs}；告警：{alarms}";
    Linked {} => "connected", "已连接";
    NotLinked {} => "not connected", "未连接";
    BuyerProductColumns {} => "node|presence|product|name|stock|prices, CNY", "节点|状态|产品|名称|库存|价格（元）";
    BuyerDealColumns {} => "deal with node|product|at|state|contract", "成交节点|产品|时间|状态|合约";
    BuyerScoreColumns {} => "scored node|overall|contract|at|signature|in the node's log", "被评节点|总分|合约|时间|签名|在节点账本中";
    ScoreUnproven {} => "not shown", "未证明";
    ScoreHolds {} => "holds", "成立";
    ScoreFalse {} => "DOES NOT HOLD", "不成立";
    ScoreUnchecked {} => "not checked: give --trust", "未检查：请用 --trust 指定信任锚";
    StatusColumns {} => "contract|product|state|records|service end|bill CNY|receipted", "合约|产品|状态|记录数|服务截止|账单（元）|已回执";
    AgentAway { socket, why } => "no agent at {socket}: {why}; start it with: hufu agent", "{socket} 处没有代理：{why}；启动命令：hufu agent";
    NodeThere { path } => "{path} is already there; init never overwrites a node", "{path} 已存在；init 从不覆盖节点";
    NodeRequested { request, dir } => "key, salt and configuration made; have {request} certified, then run: hufu init --dir {dir} --cert NODE.pem", "已生成密钥、盐和配置；请为 {request} 签发证书，然后执行：hufu init --dir {dir} --cert NODE.pem";
    NodeReady { config } => "node ready, ledger made; say what it sells in {config}, then run: hufu agent --config {config}", "节点就绪，账本已建立；请在 {config} 中写明产品，然后执行：hufu agent --config {config}";
    // The demo.
    PlatformMissing { path } => "the demo needs the platform, and {path} is not there; build it with: cargo build -p hufu-platform", "演示需要运营平台，但 {path} 不存在；请执行：cargo build -p hufu-platform";
    DemoInUse { path } => "another demo is running in {path}; give --dir", "另一个演示正在 {path} 中运行；请用 --dir 指定其他目录";
    ChildEnded { name, log } => "{name} ended early; its log is {log}", "{name} 提前结束；日志见 {log}";
    WaitedTooLong { what, log } => "waited too long for: {what}; see {log}", "等待超时：{what}；请看 {log}";
    StepFailed { said, status, log } => "a step failed with status {status}: {said} (log: {log})", "步骤失败，状态 {status}：{said}（日志：{log}）";
    NotProvided { log } => "the order's place could not be provided; see {log}", "无法为订单准备运行环境；请看 {log}";
    NoOwnMeasure {} => "the workload left no measure of its own to hold the bill against", "工作负载没有留下自测结果，无法与账单核对";
    CpuDisagrees { billed, own, allowed } => "the bill says {billed} ns of CPU, the workload measured {own} ns itself; {allowed} ns are allowed", "账单记录 CPU {billed} ns，工作负载自测为 {own} ns；允许误差 {allowed} ns";
    DemoUp { node, http } => "node {node} is up, platform at http://{http}", "节点 {node} 已上线，平台位于 http://{http}";
    DemoOffer { product, node } => "the buyer checked the offer for {product} from {node}", "买方已验证 {node} 对 {product} 的报价";
    DemoDeal { contract, end } => "deal: contract {contract}, service until {end}", "成交：合约 {contract}，服务至 {end}";
    DemoMetering { state, records, used } => "{state}, {records} usage records: {used}", "{state}，{records} 条用量记录：{used}";
    DemoBilled { bill, total } => "bill {bill}: {total} CNY", "账单 {bill}：{total} 元";
    DemoReceipted { bill } => "the platform verified bill {bill} and signed a receipt", "平台已验证账单 {bill} 并签发回执";
    DemoPaid { bill, total } => "bill {bill} paid, {total} CNY, and confirmed to the node", "账单 {bill} 已支付 {total} 元，并已向节点确认";
    DemoScored { overall } => "the buyer scored the service: {overall}", "买方已评分：{overall}";
    DemoUsageColumns {} => "resource|used|price", "资源|用量|价格";
    DemoVerdictColumns {} => "verdict|result|problems", "结论|结果|问题";
    DemoOrdered { node, contract, seconds } => "Ordered: {seconds} s at {node}, contract {contract}", "订购：{node}，{seconds} 秒，合约 {contract}";
    DemoCharged { bill, total } => "Charged: {total} CNY, bill {bill}", "收费：{total} 元，账单 {bill}";
    DemoCompared { billed, own, allowed } => "CPU billed {billed}, measured by the workload itself {own} (allowed difference {allowed})", "账单 CPU {billed}，工作负载自测 {own}（允许误差 {allowed}）";
    DemoAgain { pack, trust } => "Check it again: hufu verify {pack} --trust {trust}", "再次验证：hufu verify {pack} --trust {trust}";
    BillUnknown { number } => "no bill {number} in this ledger; hufu ledger show lists its bills", "此账本中没有账单 {number}；可用 hufu ledger show 列出账单";
}
