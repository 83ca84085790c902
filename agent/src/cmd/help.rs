//! The Chinese help. The English help is the doc comments beside the flags; here each of them has its translation, and a test
//! knows when one is missing.

use clap::{Arg, Command, builder::StyledStr};

/// English help, Chinese help.
const TABLE: &[(&str, &str)] = &[
    ("Metering, billing and evidence agent for sold computing power", "算力交易的计量、计费与存证代理"),
    ("The whole main job on this machine: sell, meter, bill, verify", "在本机完成全部主流程：出售、计量、计费、验证"),
    ("Meter one workload and say what it used", "计量一个工作负载并报告用量"),
    ("Show what this server has and what can be metered", "显示本服务器的资源及可计量项"),
    (
        "NVIDIA's management library, by path or by the name the loader finds it under",
        "NVIDIA 管理库，给出路径或加载器可找到的名称",
    ),
    ("Have the running node sell from its hardware as it is now", "让运行中的节点按当前硬件继续出售"),
    (
        "Measure disk, memory and one core for some seconds each, against what the products of --config need",
        "对磁盘、内存和单核各测量数秒，并与 --config 中产品的要求比较",
    ),
    ("Seconds that each measurement takes", "每项测量的秒数"),
    (
        "Directory whose disk is measured, with a file of at most 1 GiB that is removed again",
        "被测磁盘上的目录；测试文件不超过 1 GiB，测后删除",
    ),
    (
        "The configuration file: whose node accepts its hardware, or whose products say what they need",
        "配置文件：由其节点接受硬件，或由其产品给出要求",
    ),
    ("Show what this node's configuration would offer", "显示本节点配置将提供的产品"),
    ("Set up a node", "建立节点"),
    (
        "Change the node's key: a new one, its certificate, and the entry that both keys sign; run it again until it is done",
        "更换节点密钥：新密钥、其证书，以及由新旧密钥共同签名的条目；可反复执行直至完成",
    ),
    ("The certificate chain (PEM) that came for the next key, leaf first", "为新密钥签发的证书链（PEM），终端证书在前"),
    ("Why the key is changed, for whoever reads the ledger", "更换密钥的原因，供账本阅读者参考"),
    (
        "Seconds to wait for the platform's receipt, after which the old key is destroyed",
        "等待平台回执的秒数；收到回执后销毁旧密钥",
    ),
    ("Completions for a shell, on standard output", "在标准输出写出命令行补全脚本"),
    ("Which shell", "哪种 shell"),
    (
        "The node that this machine's service runs: configuration in /etc/hufu, ledger in /var/lib/hufu; as root",
        "本机服务所运行的节点：配置在 /etc/hufu，账本在 /var/lib/hufu；需以 root 执行",
    ),
    ("Run the daemon", "运行守护进程"),
    ("Check configuration, keys and certificates", "检查配置、密钥和证书"),
    ("Ask the running daemon", "查询运行中的守护进程"),
    ("Look at server and installation: what is, what is needed, what to do", "检查服务器与安装：现状、要求与处理办法"),
    (
        "Hold the node's key apart from the daemon, and sign for it over a local socket",
        "在守护进程之外保管节点密钥，并通过本地套接字签名",
    ),
    ("The socket to listen at", "监听的套接字"),
    (
        "Whose processes may ask besides root's and your own, by name or number; may be given several times",
        "除 root 和本用户之外，哪些用户的进程可以请求签名，名称或编号；可多次给出",
    ),
    (
        "Socket of a signer that holds the node's key, in place of a key file",
        "持有节点密钥的签名器的套接字，代替密钥文件",
    ),
    (
        "Whose process may listen there besides root's and your own, by name or number",
        "除 root 和本用户之外，哪个用户的进程可以在该处监听，名称或编号",
    ),
    ("Show and check certificates, with a directory if there is one", "显示和检查证书，可借助目录服务"),
    ("Messages of GM/T 0010: sign, verify, encrypt, decrypt", "GM/T 0010 消息：签名、验证、加密、解密"),
    ("Electronic seals of GB/T 38540: make, use, check", "GB/T 38540 电子印章：制作、使用、检查"),
    ("Time-stamps of RFC 3161 over SM3: get, check, answer", "RFC 3161 时间戳（SM3）：获取、检查、应答"),
    ("Have a time-stamping service confirm that a file exists now", "由时间戳服务证明文件此刻已存在"),
    ("Address of the service", "服务地址"),
    (
        "Policy that the service shall stamp under, an object identifier; default its own",
        "要求服务采用的策略，对象标识符；默认由服务自定",
    ),
    ("Check a time-stamp over a file", "检查文件的时间戳"),
    ("The time-stamp: a token, or the whole answer of a service (DER)", "时间戳：令牌，或服务的完整应答（DER）"),
    (
        "Certificates that a time-stamp leaves out (PEM); may be given several times",
        "时间戳中缺少的证书（PEM）；可多次给出",
    ),
    (
        "Answer a request as a time-stamping authority, by the clock of this machine",
        "以时间戳机构的身份应答请求，时间取自本机时钟",
    ),
    ("The request (DER)", "请求（DER）"),
    ("Secret key file of the authority", "时间戳机构的私钥文件"),
    ("Certificate of that key (PEM), issued for time-stamping alone", "该私钥的证书（PEM），仅用于时间戳"),
    ("Policy of the authority, an object identifier", "时间戳机构的策略，对象标识符"),
    ("Number of this time-stamp, which no other of the authority has", "此时间戳的编号，在该机构内唯一"),
    ("Stamps the time, and signs nothing else", "签发时间戳，不签署其他内容"),
    ("Stamping the time", "签发时间戳"),
    ("Bare SM2: sign, verify, encrypt, decrypt", "单独的 SM2 运算：签名、验证、加密、解密"),
    ("Revocation list (PEM); may be given several times", "吊销列表（PEM）；可多次给出"),
    (
        "The instant to judge at, for example 2026-01-01T00:00:00Z; default now",
        "判断所依据的时刻，例如 2026-01-01T00:00:00Z；默认为当前",
    ),
    ("Sign a file: SignedData", "签署文件：SignedData"),
    ("Leave the content out of the message", "消息中不含原文"),
    (
        "Sign attributes that hold the content's digest and the time, instead of the content itself",
        "签署含原文摘要与时间的属性，而非原文本身",
    ),
    ("Check the signatures of a message, and write its content out", "检查消息的签名，并写出原文"),
    ("The message (DER)", "消息（DER）"),
    ("Where the content is written to; default nowhere", "原文写入何处；默认不写"),
    ("The content of a message that has none in it", "不含原文的消息所对应的原文"),
    ("The message must have no content in it", "消息中必须不含原文"),
    (
        "Certificates that the message may leave out (PEM); may be given several times",
        "消息中可能缺少的证书（PEM）；可多次给出",
    ),
    (
        "Encrypt a file to certificates: EnvelopedData; signed as well with --key and --cert: SignedAndEnvelopedData; under a key that both sides have: EncryptedData",
        "向证书加密文件：EnvelopedData；给出 --key 和 --cert 时同时签名：SignedAndEnvelopedData；使用双方共有的密钥：EncryptedData",
    ),
    (
        "File with the SM4 key that the reader has, too, mode 0600: 16 bytes, or 32 hexadecimal digits",
        "存放双方共有的 SM4 密钥的文件，权限 0600：16 字节，或 32 位十六进制",
    ),
    ("Encryption certificate of a recipient (PEM); may be given several times", "接收方的加密证书（PEM）；可多次给出"),
    ("Secret key file of whoever signs", "签名者的私钥文件"),
    ("Certificate of that key, and intermediate ones behind it (PEM)", "该私钥的证书，其后可附中间证书（PEM）"),
    (
        "How the signature algorithm is called: 301.1 is the standard's, 501 what BouncyCastle reads",
        "签名算法的标识：301.1 为标准所定，501 为 BouncyCastle 可读",
    ),
    ("SM2-1 digital signature", "SM2-1 数字签名"),
    ("SM2 with SM3", "基于 SM3 的 SM2 签名"),
    ("Open an encrypted message; one that is signed needs --trust", "解开加密消息；带签名的消息需要 --trust"),
    ("Secret key file of the recipient", "接收方的私钥文件"),
    ("Certificate of that key (PEM)", "该私钥的证书（PEM）"),
    ("Make an electronic seal and list who may use it", "制作电子印章并列明可用者"),
    ("Secret key file of the seal's maker", "制章者的私钥文件"),
    (
        "Certificate of one who may use the seal (PEM); may be given several times",
        "可使用印章者的证书（PEM）；可多次给出",
    ),
    ("Identifier of the seal, ASCII", "印章标识，ASCII"),
    ("Name of the seal that a reader sees", "展示给读者的印章名称"),
    ("Picture of the seal: a PNG, JPEG, GIF or BMP file", "印章图像：PNG、JPEG、GIF 或 BMP 文件"),
    ("Width of the picture on paper, mm", "图像的纸面宽度，毫米"),
    ("Height of the picture on paper, mm", "图像的纸面高度，毫米"),
    ("Use a seal on a file", "在文件上用章"),
    ("The file", "文件"),
    ("The seal", "印章"),
    ("Secret key file of whoever uses the seal", "用章者的私钥文件"),
    ("Certificate of that key (PEM); the seal must list it", "该私钥的证书（PEM）；印章须列有此证书"),
    ("Check a seal by itself, or with --in its use on a file", "检查印章本身；给出 --in 时检查在文件上的用章"),
    ("The seal, or what its use made", "印章，或用章所得的签章数据"),
    ("The file that it was used on", "所盖章的文件"),
    (
        "Certificates that a seal leaves out, of intermediate authorities (PEM); may be given several times",
        "印章中缺少的中间机构证书（PEM）；可多次给出",
    ),
    ("Sign a file", "签署文件"),
    (
        "Check a signature over a file; whether the certificate is trusted is for: hufu cert check",
        "检查文件的签名；证书是否可信请用 hufu cert check",
    ),
    ("The file that was signed", "被签署的文件"),
    ("The signature (DER)", "签名（DER）"),
    ("Certificate of the signer (PEM)", "签名者的证书（PEM）"),
    ("Encrypt a small file, for example a key, to a certificate", "向证书加密小文件，例如密钥"),
    ("Certificate of the recipient (PEM)", "接收方的证书（PEM）"),
    ("Decrypt what was encrypted so", "解密如此加密的内容"),
    ("Show certificates", "显示证书"),
    ("File to read (PEM or DER)", "要读取的文件（PEM 或 DER）"),
    ("Check that a certificate leads to a trust anchor and may be used", "检查证书可追溯至信任锚并可用于所述用途"),
    ("The certificate, and intermediate ones behind it (PEM or DER)", "证书，其后可附中间证书（PEM 或 DER）"),
    ("What it is to be used for", "用于何处"),
    (
        "Directory to ask for missing issuers and for revocation lists, for example ldap://ldap.example.org/dc=ca,dc=example",
        "查询缺少的签发者证书和吊销列表的目录，例如 ldap://ldap.example.org/dc=ca,dc=example",
    ),
    (
        "Directory on this disk where what was found is kept, and answers when the other does not",
        "本机磁盘上保存查询结果的目录，目录服务无应答时由它应答",
    ),
    ("Signing messages and evidence", "签署消息与证据"),
    ("Receiving encrypted data", "接收加密数据"),
    ("Issuing certificates", "签发证书"),
    ("Make, request for and show keys", "生成密钥、申请证书、显示密钥"),
    ("A small test certificate authority", "小型测试证书机构"),
    ("The node's burnt-in record", "节点的固化记录"),
    ("Check, list, write out and prove a ledger; the paper's model", "检查、列出、导出和证明账本；论文的模型"),
    ("Write the evidence pack of a bill", "写出账单的证据包"),
    ("Reach the four verdicts over an evidence pack", "对证据包作出四项结论"),
    ("The buyer's side: browse, order, score, fetch evidence", "买方：浏览、下单、评分、获取证据"),
    ("Take something off a bill in dispute", "对有争议的账单作减额更正"),
    ("Make everything personal of a contract unreadable on this node", "使合约的个人数据在本节点不可读"),
    ("The contract's number", "合约编号"),
    ("Why, in a sentence for whoever asks later", "原因，供日后查询的一句话"),
    (
        "RESOURCE=CNY taken off, or bill=CNY; may be given several times",
        "减去的金额 RESOURCE=元 或 bill=元；可多次给出",
    ),
    (
        "Number of the parent order, 32 hexadecimal digits; without it the first child makes one",
        "父订单编号，32 个十六进制数字；不给出时由第一个子订单生成",
    ),
    (
        "The level that is paid: each child by itself, or all through the parent",
        "支付层级：各子订单单独支付，或通过父订单一并支付",
    ),
    ("How many children the parent has, 2 to 64", "父订单的子订单数，2 至 64"),
    ("Why, in a sentence the buyer will read", "原因，一句买方会读到的话"),
    (
        "Ask for an act of the contract: suspend, resume, renew, terminate, dispute, withdraw",
        "请求合约操作：suspend、resume、renew、terminate、dispute、withdraw",
    ),
    (
        "Act of the contract: suspend, resume, renew, terminate, dispute, withdraw",
        "合约操作：suspend、resume、renew、terminate、dispute、withdraw",
    ),
    ("Renew: how much longer, for example 12h, 30d", "续期：延长多久，例如 12h、30d"),
    ("Renew: the most all bills of the contract may be from now on, CNY", "续期：此后该合约全部账单的上限（元）"),
    ("Renew a prepaid contract: by how much it was renewed before", "续期预付合约：此前已续期多久"),
    ("Dispute: the evidence pack of the bill", "争议：该账单的证据包"),
    ("Why, in a sentence the site will read", "原因，一句站点会读到的话"),
    ("One JSON object on stdout; messages go to stderr", "标准输出为一个 JSON 对象；消息写到标准错误"),
    ("Language of messages: en or zh; default from the locale", "消息语言：en 或 zh；默认取自系统区域设置"),
    ("Where everything goes; a second run goes on with the same ledgers", "全部文件所在目录；再次运行时沿用同一账本"),
    ("Seconds of service", "服务秒数"),
    ("Time between samples, for example 1s or 200ms", "采样间隔，例如 1s 或 200ms"),
    ("Tariff (TOML) to rate the usage with", "用于计价的价目表（TOML）"),
    ("Meter a running process and its descendants, until it ends", "计量运行中的进程及其后代，直至结束"),
    ("Meter a cgroup, by its directory or its path below the mount", "计量控制组，给出其目录或挂载点下的路径"),
    ("Meter a systemd unit or slice, as systemctl names it", "计量 systemd 单元或 slice，名称与 systemctl 所示一致"),
    (
        "Meter a container of docker, podman, containerd or CRI-O, by its id or the first 12 characters of it",
        "计量 docker、podman、containerd 或 CRI-O 的容器，给出其 ID 或前 12 个字符",
    ),
    ("Meter a Kubernetes pod, by its UID", "计量 Kubernetes Pod，给出其 UID"),
    ("Meter a virtual machine, as virsh or machinectl names it", "计量虚拟机，名称与 virsh 或 machinectl 所示一致"),
    ("Meter the files in this directory, too", "同时计量此目录中的文件"),
    ("Stop after so many seconds", "若干秒后停止"),
    ("The command to run and meter", "要运行并计量的命令"),
    ("The configuration file", "配置文件"),
    ("Also end when standard input does: never outlive the parent", "标准输入结束时也结束：不比父进程活得更久"),
    ("Directory of the node: configuration, keys, ledger", "节点目录：配置、密钥、账本"),
    ("Site, 1 to 64 of a-z 0-9 _ -", "站点，1 至 64 个 a-z 0-9 _ - 字符"),
    ("Node, 1 to 64 of a-z 0-9 _ -", "节点，1 至 64 个 a-z 0-9 _ - 字符"),
    ("The MQTT broker", "MQTT 消息代理"),
    ("Trust anchors (PEM)", "信任锚（PEM）"),
    ("The platform's certificate chain (PEM), leaf first", "平台证书链（PEM），终端证书在前"),
    ("An existing secret key file; without it a new key is made", "已有的私钥文件；不给则新生成"),
    (
        "The node's certificate chain (PEM), leaf first: then the ledger is made too",
        "节点证书链（PEM），终端证书在前：给出时同时建立账本",
    ),
    (
        "The disk was lost, the key was not: an empty ledger, for the agent to fetch back what the platform holds",
        "磁盘丢失而密钥尚存：建立空账本，由代理从平台取回其所持有的区块",
    ),
    (
        "Image of the burnt-in record, in place of --site, --node and --broker",
        "固化记录镜像，代替 --site、--node 和 --broker",
    ),
    ("Certificate (PEM) of whoever signed the image", "镜像签名者的证书（PEM）"),
    (
        "Put a key under a password (PBKDF2-HMAC-SM3, SM4-CBC), in a new file",
        "用口令加密密钥（PBKDF2-HMAC-SM3、SM4-CBC），写入新文件",
    ),
    ("Take a key from under its password, into a new file", "解除密钥的口令加密，写入新文件"),
    ("Rounds of PBKDF2", "PBKDF2 的迭代次数"),
    ("File with the key's password in one line, mode 0600", "存放密钥口令（一行）的文件，权限 0600"),
    (
        "Open file descriptor from which the key's password is read; 0 is standard input",
        "从中读取密钥口令的已打开文件描述符；0 为标准输入",
    ),
    ("Credential of systemd that holds the key's password", "存放密钥口令的 systemd 凭据"),
    (
        "File to make for the encryption certificate of a double certificate, whose key pair is made here, too",
        "同时签发的双证书中加密证书的文件，其密钥对在此生成",
    ),
    (
        "File to make for the delivered key pair (SM2EnvelopedKey, DER), encrypted to the request's key",
        "要生成的密钥对交付文件（SM2EnvelopedKey，DER），以请求中的密钥加密",
    ),
    ("Make a new SM2 key (PKCS#8 PEM, mode 0600)", "生成新的 SM2 密钥（PKCS#8 PEM，权限 0600）"),
    ("Make a certification request (PKCS#10 PEM)", "生成证书请求（PKCS#10 PEM）"),
    ("Show the public side of a key, certificate or request file", "显示密钥、证书或请求文件的公开部分"),
    ("File to make", "要生成的文件"),
    ("Secret key file", "私钥文件"),
    ("Subject, for example CN=site-1/node-1,O=site,C=CN", "主体名，例如 CN=site-1/node-1,O=site,C=CN"),
    ("DNS name; may be given several times", "DNS 名称；可多次给出"),
    ("File to make; default stdout", "要生成的文件；默认标准输出"),
    ("File to read", "要读取的文件"),
    ("Make a self-signed root certificate", "生成自签名根证书"),
    ("Issue a certificate for a request", "按请求签发证书"),
    ("Make a revocation list", "生成吊销列表"),
    ("Secret key file of the root", "根私钥文件"),
    ("Subject, for example CN=test-root,C=CN", "主体名，例如 CN=test-root,C=CN"),
    ("Days it is valid", "有效天数"),
    ("The request (PEM)", "证书请求（PEM）"),
    ("What the certificate is for", "证书用途"),
    ("Certificate of the authority (PEM)", "证书机构的证书（PEM）"),
    ("Secret key file of the authority", "证书机构的私钥文件"),
    (
        "Certificate to revoke; may be given several times, earlier ones must be repeated",
        "要吊销的证书；可多次给出，先前吊销的须重复列出",
    ),
    ("Number of the list, rising", "列表编号，递增"),
    ("Days until the next list", "距下一列表的天数"),
    (
        "Write a record into the slot that is not in use; a new image if there is none",
        "将记录写入未用的槽位；没有镜像则新建",
    ),
    ("Show what an image says", "显示镜像内容"),
    ("Check an image: checksum, signature, record", "检查镜像：校验和、签名、记录"),
    ("The image to make or update", "要生成或更新的镜像"),
    (
        "The node's ledger directory: the highest revision that the node accepted counts too",
        "节点的账本目录：同时检查节点曾接受的最高修订号",
    ),
    (
        "Install a record made elsewhere; a power cut at any moment leaves the old record or the new one",
        "安装他处生成的记录；任何时刻断电，旧记录或新记录必有其一完整",
    ),
    ("The node's image: a file, or a partition of its own", "节点的镜像：文件，或专用分区"),
    ("The image that holds the new record", "含有新记录的镜像"),
    ("Revision of the record; without it one above the image's", "记录的修订号；未给出时比镜像中的大一"),
    ("Serial number of the machine", "机器序列号"),
    ("Site", "站点"),
    ("Node", "节点"),
    (
        "Broker and platform certificate, HOST:PORT=CERT.pem; in order of preference",
        "消息代理与平台证书，HOST:PORT=CERT.pem；按优先顺序",
    ),
    ("The node's signing key and certificate, REFERENCE=CERT.pem", "节点签名密钥与证书，REFERENCE=CERT.pem"),
    ("Secret key file of whoever signs records", "记录签名者的私钥文件"),
    ("The image", "镜像"),
    (
        "Certificate (PEM) of whoever signs records; without it signatures are not checked",
        "记录签名者的证书（PEM）；不给则不检查签名",
    ),
    ("Certificate (PEM) of whoever signs records", "记录签名者的证书（PEM）"),
    ("Check every byte, link, root and signature", "检查每个字节、链接、树根和签名"),
    ("List the entries", "列出条目"),
    ("Write blocks and entries out as DER files", "将区块和条目导出为 DER 文件"),
    ("Prove that an entry is in the log", "证明条目在账本中"),
    ("The ledger's directory", "账本目录"),
    (
        "The paper's formulas (1) and (2): the chance to replace the blocks of a trade",
        "论文公式（1）和（2）：替换一笔交易的区块的概率",
    ),
    (
        "The paper's formulas (3) to (5): what the blocks of a trade cost on this machine",
        "论文公式（3）至（5）：一笔交易的区块在本机的开销",
    ),
    ("Share of the block-making power that the attacker has, 0 to 1", "攻击方制造区块的能力占比，0 至 1"),
    ("Blocks of one trade", "一笔交易的区块数"),
    ("Blocks that the attacker needs; without it one more than the trade has", "攻击方需要的区块数；默认比交易多一个"),
    (
        "Bandwidth of the line, bits per second; without it no time on the line",
        "线路带宽，比特每秒；不给则不计传输时间",
    ),
    ("Nodes that each block is sent to and that validate it, side by side", "每个区块发往并同时验证它的节点数"),
    ("Blocks of each type to make and verify; the median counts", "每种区块生产并验证的次数；取中位数"),
    (
        "Trust anchor (PEM); may be given several times. Without it: self-consistent only",
        "信任锚（PEM）；可多次给出。不给则仅检查自洽",
    ),
    (
        "A signed checkpoint (DER) that somebody kept; may be given several times",
        "他人保存的签名检查点（DER）；可多次给出",
    ),
    ("Directory to make", "要建立的目录"),
    ("Which log", "哪个账本"),
    ("Height of the block", "区块高度"),
    ("Index of the entry in its block", "条目在区块中的序号"),
    (
        "List products and scores; with --node and --product, ask for an offer",
        "列出产品和评分；给出 --node 和 --product 则请求报价",
    ),
    ("Check the offer, sign the order, check the deal", "验证报价，签署订单，验证成交"),
    ("Score a served contract, for example cpu=95 memory=90", "为已完成的合约评分，例如 cpu=95 memory=90"),
    (
        "Only show what the quality lines of this evidence pack suggest; signs and sends nothing",
        "仅显示该证据包的服务质量所建议的评分；不签名，也不发送",
    ),
    ("Fetch the evidence pack of a bill", "获取账单的证据包"),
    ("Address of the platform, http://HOST:PORT", "平台地址，http://HOST:PORT"),
    ("Read the node's answer from a file", "从文件读取节点应答"),
    ("Write the request to a file", "将请求写入文件"),
    ("The buyer's secret key file", "买方私钥文件"),
    ("The buyer's certificate chain (PEM), leaf first", "买方证书链（PEM），终端证书在前"),
    ("Trust anchors for nodes (PEM); may be given several times", "节点的信任锚（PEM）；可多次给出"),
    ("Directory of this contract's papers", "本合约文件所在目录"),
    ("Node to ask, SITE/NODE", "要询问的节点，SITE/NODE"),
    ("Product to ask an offer for", "要询价的产品"),
    ("Units", "份数"),
    ("Term of service, for example 90s, 30m, 12h, 30d", "服务期限，例如 90s、30m、12h、30d"),
    ("The most a bill may be, CNY", "账单上限，人民币元"),
    (
        "Pay the price of the whole term before: possible where all that is priced is reserved",
        "预付整个期限的价格：仅当全部计价项均为预留资源时可用",
    ),
    ("RESOURCE=0..100, one for each priced resource of the deal", "资源=0..100，交易中每种计价资源各一个"),
    ("The bill's number", "账单编号"),
    ("File to write; default BILL_NO.zip", "要写入的文件；默认为 账单编号.zip"),
    ("Where the pack goes; a file that is there is replaced", "证据包写到何处；已有文件将被替换"),
    ("Configuration of the node", "节点的配置"),
    ("The ledger itself, without any configuration", "直接给出账本，无需配置"),
    ("The evidence pack", "证据包"),
    ("Where two evidence packs of one contract part", "找出同一合约的两个证据包的分歧之处"),
    ("Write the page a person reads: usage, costs, verdicts, signers", "生成供人阅读的页面：用量、费用、裁定、签署方"),
    (
        "Where the page goes, one HTML file; a file that is there is replaced",
        "页面写入位置，单个 HTML 文件；已有文件会被替换",
    ),
    ("One evidence pack", "一个证据包"),
    ("Another one of the same contract", "同一合约的另一个证据包"),
    (
        "PEM file of trust anchors; may be given several times; without, nobody vouches for the certificates",
        "信任锚的 PEM 文件；可多次给出；未给出时无人为证书担保",
    ),
    ("PEM file of trust anchors; may be given several times", "信任锚的 PEM 文件；可多次给出"),
    (
        "Deal, usage and bill must be confirmed by so many nodes, the platform's receipt counting as one; or by so many of those named",
        "合约、用量与账单须得到如此多节点的确认（平台收条计为一个）；或得到所列各方中如此多的确认",
    ),
    ("Every signature must also pass the second implementation (libsm)", "每个签名还须通过第二实现（libsm）的验证"),
];

fn translated(english: Option<&StyledStr>) -> Option<&'static str> {
    let english = english?.to_string();
    TABLE.iter().chain(super::help_market::TABLE).find(|(text, _)| *text == english).map(|(_, chinese)| *chinese)
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
pub(super) fn in_chinese(command: Command) -> Command {
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
        missing(&super::super::Cli::command(), &mut found);
        assert!(found.is_empty(), "add to TABLE in cmd/help.rs or help_market.rs: {found:#?}");
    }
}
