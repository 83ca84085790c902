//! Every message `hufu` shows a person, English and Chinese in one table. Log lines are not messages: they are constant
//! lower-case English with fields.

hufu_audit::texts! {
    FileUnreadable { path, why } => "cannot read {path}: {why}; check the path and its permissions", "无法读取 {path}：{why}；请检查路径和权限";
    FileUnwritable { path, why } => "cannot write {path}: {why}; choose another place or free it", "无法写入 {path}：{why}；请另选位置或释放空间";
    Malformed { path, why } => "{path} is malformed: {why}", "{path} 格式错误：{why}";
    KeyFileMode { path, mode } => "key file {path} has mode {mode}, others can read it; run: chmod 600 {path}", "密钥文件 {path} 的权限为 {mode}，他人可读；请执行：chmod 600 {path}";
    LedgerInUse { path } => "ledger {path} is in use by another process; stop it first", "账本 {path} 正被另一进程使用；请先停止该进程";
    ConfigWrong { path, why } => "configuration {path}: {why}", "配置 {path} 有误：{why}";
    Unreachable { what, why } => "cannot reach {what}: {why}; is it running?", "无法连接 {what}：{why}；它在运行吗？";
    Usage { why } => "{why}; see --help", "{why}；请看 --help";
    Bug { why } => "internal error: {why}; please report it with the command line", "内部错误：{why}；请连同命令行一起报告";
    Interrupted {} => "interrupted", "已中断";

    // The command line.
    UnknownArgument { argument } => "unknown argument {argument}; see --help", "未知参数 {argument}；请看 --help";
    UnknownCommand { name } => "unknown command {name}; see --help", "未知命令 {name}；请看 --help";
    CommandMissing {} => "which command? see --help", "缺少命令；请看 --help";
    ArgumentMissing { argument } => "missing argument {argument}; see --help", "缺少参数 {argument}；请看 --help";
    ArgumentValue { argument, value, expected } => "{argument}: {value:?} does not fit: {expected}", "{argument}：{value:?} 不符合要求：{expected}";
    ArgumentConflict { argument, other } => "{argument} cannot be used with {other}", "{argument} 不能与 {other} 同时使用";
    KeyMade { path } => "key written to {path}; keep it secret, it is never sent anywhere", "密钥已写入 {path}；请妥善保管，它不会被发送到任何地方";
    CertificateMade { path, subject } => "certificate of {subject} written to {path}", "{subject} 的证书已写入 {path}";
}
