//! The Chinese help of what stands beside a contract: demands, questions, tokens. What is done with it is `help.rs`.

/// English help, Chinese help.
pub(super) const TABLE: &[(&str, &str)] = &[
    ("Publish what you look for; nodes answer with proposals", "发布需求；各节点以方案响应"),
    ("What was proposed for a demand", "查看对某一需求的方案"),
    ("The demand's number", "需求编号"),
    (
        "Choose among the proposals for a demand; what was not chosen is free again",
        "在各方案中选定；未选方案所保留的资源随即释放",
    ),
    ("Node whose proposal is chosen, SITE/NODE; several times", "选定其方案的节点，SITE/NODE；可多次给出"),
    ("Why, for whoever reads it later", "原因，供日后查阅"),
    ("What of a contract's money goes back, asked of its node", "向节点查询合约可退的金额"),
    ("The bills of a contract, asked of its node", "向节点查询合约的账单"),
    (
        "A token with which you enter the service of a contract, for a quarter of an hour",
        "进入合约所购服务的令牌，有效期十五分钟",
    ),
    ("File to write", "写入的文件"),
    ("Proofs that a node showed two pasts of its log", "证明某节点为其账本出示了两种历史"),
    (
        "Judge a fork proof: both statements are the node's, and exclude each other",
        "判定分叉证明：两份声明均由该节点签署，且互相矛盾",
    ),
    ("The proof", "分叉证明文件"),
    ("Trust anchors for the node (PEM); may be given several times", "节点的信任锚（PEM）；可多次给出"),
    ("Show what a fork proof says, and write its parts out for openssl", "显示分叉证明的内容，并拆分供 openssl 检验"),
    (
        "Directory for first.der, first.sig, second.der, second.sig and certificates",
        "写入 first.der、first.sig、second.der、second.sig 和证书的目录",
    ),
    ("Witnesses of each checkpoint; without it nothing is said of them", "每个检查点的见证人数；缺省时不计算"),
    ("Witnesses that make an entry confirmed", "确认一个条目所需的见证人数"),
    ("Share of the witnesses that collude with the node, 0 to 1", "与节点合谋的见证人比例，0 至 1"),
    ("Share of the time that a witness is away, 0 to 1", "见证人离线的时间比例，0 至 1"),
    (
        "Compare orders, bills and money of a period with the platform's books, signed by both",
        "与平台核对某一期间的订单、账单与款项，双方签名",
    ),
    (
        "Month YYYY-MM, day YYYY-MM-DD, or two times of RFC 3339 in UTC with / between them",
        "月份 YYYY-MM、日期 YYYY-MM-DD，或以 / 分隔的两个 UTC 时间（RFC 3339）",
    ),
    ("Time zone of months and days", "月份与日期所用的时区"),
    ("Compare with the platform there, http://HOST:PORT", "与该处的平台核对，http://HOST:PORT"),
    (
        "Compare with the platform's statement in this file, or the pair of statements in it",
        "与此文件中的平台对账单核对，或核对其中的一对对账单",
    ),
    ("File to write: this node's statement, or the pair", "写入的文件：本节点的对账单，或一对对账单"),
    ("Contract number; without it the contract of the papers in --state", "合约编号；缺省为 --state 中文件所属的合约"),
    (
        "For service that ends then, RFC 3339, such as 2026-12-01T00:00:00Z",
        "假定服务在此刻结束，RFC 3339，例如 2026-12-01T00:00:00Z",
    ),
    ("Class of the product: IaaS, PaaS or SaaS", "产品类别：IaaS、PaaS 或 SaaS"),
    (
        "RESOURCE=LEAST of each unit, in base units: cpu=2000 (thousandths of a core), memory=4294967296, gpu=1; several times",
        "每个单位的最低资源，基本单位：cpu=2000（千分之一核）、memory=4294967296、gpu=1；可多次给出",
    ),
    ("Service may start from now until after this", "服务可在从现在起的这段时间内开始"),
    ("Answers are taken for so long", "接受响应的时长"),
    ("The most that all of it may cost, CNY; told to the nodes", "总价上限（元），会告知各节点"),
    (
        "Only this node may see it; several times. Without it the demand is public",
        "仅该节点可见，可多次给出；缺省为公开",
    ),
    ("Template that the attributes belong to", "属性所属的模板"),
    (
        "NAME=VALUE, a wish in the template's words; several times. Never who or where you are",
        "NAME=VALUE，以模板用语表达的要求，可多次给出；切勿写明身份或地点",
    ),
    (
        "The site whose platform passes it on; without it the one whose nodes the platform lists",
        "由哪个站点的平台转发；缺省为平台所列节点的站点",
    ),
    ("Tokens with which users enter services", "用户进入服务所用的令牌"),
    (
        "Your account at the platform, and what was noted there that you did or that concerns you",
        "您在平台的账户，以及平台记录的您的操作和与您有关的操作",
    ),
    ("Deals and scores of the nodes that this one follows", "所跟随节点的交易与评分"),
    (
        "Put back what copies of a ledger hold that lost blocks; run hufu init --recover before where all of it is lost",
        "将副本中的区块放回缺失区块的账本；若账本全部丢失，请先执行 hufu init --recover",
    ),
    (
        "A copy of the ledger's directory (its keys beside it), or what `hufu ledger export` wrote; may be given several times",
        "账本目录的副本（密钥在其旁），或 hufu ledger export 的输出；可多次给出",
    ),
    ("Accounts of the platform at this node", "本节点持有的平台账户"),
    (
        "List the users that the platform told this node of, with roles and state",
        "列出平台同步给本节点的用户及其角色和状态",
    ),
    (
        "The node's configuration: its running agent says whether the user's account is still active",
        "节点的配置文件：由运行中的代理判断该用户账户是否仍然有效",
    ),
    (
        "Check a user's token at the entry of a service: signature, audience, contract, time",
        "在服务入口检查用户令牌：签名、受众、合约、时间",
    ),
    ("The token: DER, or base64url as the platform gives it", "令牌：DER，或平台给出的 base64url"),
    ("Trust anchors for the platform (PEM); may be given several times", "平台的信任锚（PEM）；可多次给出"),
    ("The node whose service this is, SITE/NODE", "提供该服务的节点，SITE/NODE"),
    ("The contract that the user comes for; without it any", "用户前来使用的合约；缺省为任意"),
];
