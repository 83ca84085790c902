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
}
