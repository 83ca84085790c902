//! Everything a verdict says, English and Chinese in one table.

crate::texts! {
    // signatures
    IndexLine {} => "this line is not a line of the index; the table was changed", "此行不符合索引格式；表格被改动";
    IndexTime { told, signed } => "the index says signed at {told}, the signed bytes say {signed}", "索引称签名时间为 {told}，而签名原文为 {signed}";
    IndexRole { told, right } => "the index says {told} signs this, it must be the {right}", "索引称由 {told} 签名，应为 {right}";
    FileMissing { file } => "{file} is missing", "缺少 {file}";
    FileUnreadable { why } => "this member cannot be read: {why}", "无法读取该成员：{why}";
    NotThis { what } => "these bytes are not a {what}", "这些字节不是 {what}";
    CertificateMalformed { why } => "not a certificate: {why}", "不是证书：{why}";
    CrlMalformed { why } => "not a revocation list: {why}", "不是吊销列表：{why}";
    CrlStray {} => "no certificate here or trusted signed this revocation list", "本包及信任锚中没有证书签发过此吊销列表";
    CertificateStray {} => "no certificate here or trusted issued this certificate", "本包及信任锚中没有证书签发过此证书";
    NoTrust { role, why } => "nothing that was trusted vouches for the {role}: {why}; give its anchor with --trust", "没有信任锚为 {role} 担保：{why}；请用 --trust 指定其信任锚";
    ChainBad { role, why } => "the {role}'s certificate does not hold: {why}", "{role} 的证书不成立：{why}";
    SignatureWrong { role, certificate } => "the signature is not the {role}'s ({certificate}) over these bytes", "签名不是 {role}（{certificate}）对这些字节的签名";
    SignatureMalformed { role } => "the signature of the {role} is not DER of an SM2 signature", "{role} 的签名不是 SM2 签名的 DER 编码";
    CrossCheck {} => "the second implementation does not agree that this signature is valid", "第二实现不认可此签名";
    CrossCheckAbsent {} => "this program was built without the second implementation; nothing was cross-checked", "本程序未包含第二实现；未做交叉核验";
    Unsigned { role } => "no valid signature of the {role} over what this entry holds", "没有 {role} 对该条目内容的有效签名";
    OtherSigner { role, told, found } => "signed by the {role}'s certificate {found}, but the entry names {told}", "由 {role} 的证书 {found} 签名，但条目指明 {told}";
    OtherSignature {} => "the signature inside the entry is not the one listed in the index", "条目内的签名与索引所列签名不同";
    TwoRoles { first, second } => "one certificate signs as {first} and as {second}", "同一证书既作为 {first} 又作为 {second} 签名";
    NotInEntry {} => "these bytes are not the ones inside the signed entry", "这些字节与已签名条目内的不同";
    ViewDiffers {} => "this view says something else than bill.der", "此视图与 bill.der 不一致";
    HashLink { to, by } => "{by} names another {to} by its hash", "{by} 以哈希指明的 {to} 是另一个";
    FieldDiffers { by, told, found } => "{found} here, {told} in the {by}", "此处为 {found}，而 {by} 中为 {told}";
    PathWrong { header } => "the entry is not under the signed root of {header}", "该条目不在 {header} 的已签名根之下";
    LogPathWrong { root } => "the block is not under the signed root of {root}", "该区块不在 {root} 的已签名根之下";
    HeaderUnsigned { header } => "{header} carries no valid signature of the node", "{header} 没有节点的有效签名";
    RootUnsigned { root } => "{root} carries no valid signature", "{root} 没有有效签名";
    // completeness
    EntryMissing { what } => "the {what} is missing", "缺少 {what}";
    EntryMalformed { why } => "the entry does not decode: {why}", "条目无法解码：{why}";
    EntryName { kind } => "the name does not fit its content, which is a {kind}", "文件名与内容（{kind}）不符";
    Double { name } => "the container holds a name twice: {name}", "容器中有重复的名称：{name}";
    LinkHash {} => "the trade log names another finance entry at that place", "交易账本在该位置指明的是另一个财务条目";
    Contract {} => "it belongs to another contract", "属于另一份合约";
    PathMalformed {} => "not a path: one L or R and 64 hexadecimal digits a line expected", "路径格式错误：每行应为 L 或 R 加 64 位十六进制";
    ListSum {} => "this list is not the one whose SM3 its last line tells", "此清单与其末行所载 SM3 不符";
    ListShort { count } => "{count} bytes at its end are in no line of the list beside it", "末尾有 {count} 字节不在旁边清单的任何一行中";
    NoProof { what } => "the {what} has no proof that it stands in a signed block", "{what} 没有其位于已签名区块中的证明";
    NoRoot {} => "no receipt or checkpoint covers this block yet: only the node vouches for it", "尚无收条或检查点覆盖此区块：仅由节点担保";
    NoReceipt {} => "no receipt of the platform covers the bill yet", "尚无平台收条覆盖此账单";
    Fork { size } => "two different roots are signed for size {size} of one log: its node or platform contradicts itself", "同一账本大小 {size} 有两个不同的已签名根：节点或平台自相矛盾";
    Refused { code } => "the platform refuses this entry (code {code}): it is in dispute", "平台拒绝此条目（代码 {code}）：存在争议";
    SeqHole { due, found } => "usage record {found} where {due} is due", "应为用量记录 {due}，却是 {found}";
    SeqShort { due, count } => "the bill covers {due} usage records, {count} are here", "账单涵盖 {due} 条用量记录，此处有 {count} 条";
    ChainBroken { seq } => "record {seq} does not name the hash of the record before it", "记录 {seq} 未指明前一条记录的哈希";
    PlaceOrder { seq } => "record {seq} stands before the record that it follows", "记录 {seq} 的位置在其前一条之前";
    TimeHole { seq } => "record {seq} does not begin where the record before it ends", "记录 {seq} 的起点不是前一条的终点";
    RulesUnknown { why } => "cannot judge the contract's course: {why}", "无法判断合约过程：{why}";
    Act { act, why } => "the contract does not allow {act}: {why}", "合约不允许 {act}：{why}";
    State { told, found } => "the entry says state {told}, the rules lead to {found}", "条目称状态为 {told}，按规则应为 {found}";
    Unbilled { state } => "the rules end in state {state}, not after a bill", "按规则止于状态 {state}，而非出账之后";
    ViewMissing {} => "missing; it is no evidence, but belongs to every pack", "缺失；它不是证据，但每个证据包都应有";
    // data quality
    Gap { start, end, why } => "not measured from {start} to {end}: {why}", "{start} 至 {end} 未计量：{why}";
    Reading { resource, status, why } => "{resource} is {status}: {why}", "{resource} 为 {status}：{why}";
    TimeUncertain { state } => "the clock was {state} and nothing corroborates it", "时钟状态为 {state}，且没有旁证";
    TimeContradicted { block, stored } => "block time {block} lies after {stored}, when the platform already held it", "区块时间 {block} 晚于平台已持有它的时间 {stored}";
    TimeUnset {} => "the clock was never set when this was billed", "出账时时钟从未设置";
    Length { wall, monotonic } => "the interval is {wall} ns long by the wall clock, {monotonic} ns by the monotonic one", "该区间按墙上时钟为 {wall} 纳秒，按单调时钟为 {monotonic} 纳秒";
    Backwards {} => "the interval ends before it begins", "区间的终点早于起点";
    Conservation { resource } => "orders together used more {resource} than the host has counted", "各订单合计的 {resource} 超过主机计数";
    More { count } => "{count} further problems of this kind of verdict are not listed", "此项裁定另有 {count} 个问题未列出";
    // arithmetic
    NotRecomputed { why } => "cannot recompute the bill: {why}", "无法重新计算账单：{why}";
    Recomputed { told, found } => "the bill says {told}, recomputing gives {found}", "账单为 {told}，重新计算得 {found}";
    Ceiling { total, ceiling } => "the total {total} is above the amount {ceiling} that the buyer signed", "合计 {total} 超过买方签署的金额 {ceiling}";
    TariffHash { by } => "these price terms do not hash to what the {by} names", "这些价格条款的哈希与 {by} 所指不符";
    TariffMalformed { why } => "the price terms do not decode: {why}", "价格条款无法解码：{why}";
    Sum {} => "lines, gaps and rounding do not add up to the total", "各行、间隙与抹零之和不等于合计";
    // two packs held against each other
    DisputeContract { number } => "contract {number}", "合约 {number}";
    DisputeHolds { side } => "{side}: its signatures hold", "{side}：签名成立";
    DisputeHoldsAlone { side } => "{side}: its signatures hold, under certificates that nobody vouches for: no --trust was given", "{side}：签名成立，但未给出 --trust，无人为其证书担保";
    DisputeFails { side, count } => "{side}: its signatures do NOT hold ({count} problems)", "{side}：签名不成立（{count} 个问题）";
    DisputeNone {} => "the packs do not contradict each other", "两个证据包没有矛盾";
    DisputeTrade { height } => "block {height} of the trade log", "交易账本区块 {height}";
    DisputeFinance { height } => "block {height} of the finance log", "财务账本区块 {height}";
    DisputeAt { block, entry, field } => "they part at {block}, entry {entry}, field {field}:", "分歧始于{block}、条目 {entry}、字段 {field}：";
    DisputeBlock { block, field } => "they part at {block}, field {field}:", "分歧始于{block}、字段 {field}：";
    DisputeFile { field } => "their entries agree, they part in a file beside them, field {field}:", "条目一致，分歧在条目之外的文件，字段 {field}：";
    DisputeEntry {} => "one entry cannot have two contents: one of the packs was changed, or its node tells each reader something else", "同一条目不可能有两种内容：其中一个证据包被改动，或节点对不同读者说法不一";
    DisputeFork {} => "the node signed two different blocks of this height: it forked its log", "节点在同一高度签署了两个不同的区块：其账本已分叉";
    DisputeUnsigned { side } => "two different blocks of one height; that of {side} carries no valid signature of the node", "同一高度有两个不同的区块；{side} 的区块没有节点的有效签名";
    DisputeMissing { side } => "only {side} holds this entry, and both bills rest on it", "仅 {side} 含有此条目，而两份账单都以它为依据";
    DisputePlace {} => "one entry cannot stand at two places of a log", "同一条目不可能位于账本的两个位置";
    DisputeRoot { size } => "two different roots are signed for size {size} of one log: its node or platform contradicts itself", "同一账本大小 {size} 有两个不同的已签名根：节点或平台自相矛盾";
    DisputeReceipt {} => "the signed bytes differ and a signature over them does not hold: they were changed", "签名原文不同，且有签名不成立：原文被改动";
    DisputeMember {} => "it must be one and the same in both: one of the packs was changed", "两者应完全相同：其中一个证据包被改动";
    // the statement of four lines
    HeadSignatures {} => "signatures", "签名";
    HeadCompleteness {} => "completeness", "完整性";
    HeadDataQuality {} => "data quality", "数据质量";
    HeadArithmetic {} => "arithmetic", "计算";
    Pass {} => "pass", "通过";
    Warn {} => "pass, with remarks", "通过（有备注）";
    Fail {} => "FAIL", "不通过";
    Line { name, result, checked, problems } => "{name}: {result} ({checked} checked, {problems} remarks)", "{name}：{result}（检查 {checked} 项，{problems} 条说明）";
    Totals { billed, recomputed } => "billed {billed} CNY, recomputed {recomputed} CNY", "账单金额 {billed} 元，重新计算 {recomputed} 元";
    Party { role, subject } => "{role}: {subject}", "{role}：{subject}";
}
