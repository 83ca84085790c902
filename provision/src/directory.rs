//! The directory of an order's files, with a project quota where its filesystem has them: the limit holds for all that is ever
//! written below it, and one statfs(2) says how much that is. What the agent reads of it is `hufu_metering`'s.
//!
//! Project ids and limits are set by chattr(1) and setquota(8): the system calls have no safe binding, and a site can repeat by
//! hand what it reads in the journal.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::settings::{After, Settings};

/// The base may be entered, not listed: an order's directory is found only by who knows its number.
const BASE_MODE: u32 = 0o711;
/// The agent, which is not root, may walk a directory without quota.
const MODE: u32 = 0o755;
/// The lowest project id given. A site's own projects are usually numbered from 1.
const PROJECT_FIRST: u32 = 1_000_000;
/// Where the tools are.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes the directory of an order, or finds it again, and limits it to `bytes` where the filesystem can. Gives its path.
///
/// # Errors
/// What is wrong with the base; what the system or a tool says; a limit that does not hold.
pub(crate) fn make(settings: &Settings, order: &str, bytes: u64) -> Result<PathBuf, String> {
    let base = &settings.storage;
    let failed = |e: io::Error| format!("{}: {e}", base.display());
    if !base.exists() {
        fs::DirBuilder::new().recursive(true).mode(BASE_MODE).create(base).map_err(failed)?;
        fs::set_permissions(base, fs::Permissions::from_mode(BASE_MODE)).map_err(failed)?;
    }
    let found = fs::symlink_metadata(base).map_err(failed)?;
    let owner = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != owner || found.mode() & 0o022 != 0 {
        let why = "must be a directory of root's that nobody else can write; chown root, chmod go-w";
        return Err(format!("{}: {why}", base.display()));
    }
    let path = base.join(order);
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    match fs::create_dir(&path) {
        Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(&path).map_err(failed)?.is_dir() {
                return Err(format!("{}: is no directory", path.display()));
            }
        }
        Err(error) => return Err(failed(error)),
    }
    if let Some(mount) = with_projects(base)? {
        limit(&mount, base, &path, bytes)?;
    }
    Ok(path)
}

/// The order ended: its files stay or go, as the settings say. What is gone has gone.
///
/// # Errors
/// What the system says; something mounted below, which is never emptied.
pub(crate) fn end(settings: &Settings, order: &str) -> Result<(), String> {
    let path = settings.storage.join(order);
    if settings.storage_after == After::Keep || fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    let path = fs::canonicalize(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if let Some(below) = mounts()?.iter().find(|mount| mount.point.starts_with(&path)) {
        return Err(format!("{}: something is mounted there: unmount it, then it is removed", below.point.display()));
    }
    let mount = with_projects(&settings.storage)?;
    let project = mount.as_ref().map(|_| project_of(&path)).transpose()?;
    fs::remove_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if let (Some(mount), Some(project)) = (mount, project.filter(|project| *project >= PROJECT_FIRST)) {
        set_quota(&mount, project, 0)?;
    }
    Ok(())
}

/// A mounted filesystem.
struct Mount {
    point: PathBuf,
    has_projects: bool,
}

fn mounts() -> Result<Vec<Mount>, String> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("mountinfo: {e}"))?;
    Ok(text.lines().filter_map(mount).collect())
}

/// One mountinfo line. Blanks in a mount point are written as `\040`: such a point is no prefix of a base without them, and a base
/// with them has no quota.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?.into();
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
    let has_projects = matches!(kind, "ext4" | "f2fs" | "xfs")
        && options.split(',').any(|word| word == "prjquota" || word == "pquota");
    Some(Mount { point, has_projects })
}

/// Where the filesystem of `base` is mounted, if it has project quotas in force.
fn with_projects(base: &Path) -> Result<Option<PathBuf>, String> {
    let base = fs::canonicalize(base).map_err(|e| format!("{}: {e}", base.display()))?;
    let mounts = mounts()?;
    let holds = mounts.into_iter().filter(|mount| base.starts_with(&mount.point));
    let mount = holds.max_by_key(|mount| mount.point.as_os_str().len());
    Ok(mount.filter(|mount| mount.has_projects).map(|mount| mount.point))
}

fn limit(mount: &Path, base: &Path, path: &Path, bytes: u64) -> Result<(), String> {
    // Two orders that start at once must not get one id.
    let turn = fs::File::open(base).map_err(|e| format!("{}: {e}", base.display()))?;
    flock(&turn, FlockOperation::LockExclusive).map_err(|e| format!("{}: {e}", base.display()))?;
    let project = match project_of(path)? {
        0 => {
            let used = projects(&tool("lsattr", &["-p".as_ref(), base.as_os_str()])?);
            let free = (PROJECT_FIRST..).find(|id| !used.contains(id)).ok_or("no project id is free")?;
            tool("chattr", &["-p".as_ref(), free.to_string().as_ref(), "+P".as_ref(), path.as_os_str()])?;
            free
        }
        project => project,
    };
    set_quota(mount, project, bytes.div_ceil(1024))?;
    let size = |path: &Path| statvfs(path).map_err(|e| format!("{}: {e}", path.display()));
    let (own, whole) = (size(path)?, size(mount)?);
    if own.f_blocks >= whole.f_blocks {
        return Err(format!(
            "{}: a limit of {bytes} bytes does not hold: the filesystem has no more than that, or its quotas are off (quotaon -P)",
            path.display()
        ));
    }
    Ok(())
}

fn set_quota(mount: &Path, project: u32, limit_kib: u64) -> Result<(), String> {
    let (project, limit) = (project.to_string(), limit_kib.to_string());
    let arguments = ["-P", &project, "0", &limit, "0", "0"].map(str::as_ref);
    tool("setquota", &[&arguments[..], &[mount.as_os_str()]].concat()).map(drop)
}

/// The project that a directory belongs to; 0 is none.
fn project_of(path: &Path) -> Result<u32, String> {
    let said = tool("lsattr", &["-pd".as_ref(), path.as_os_str()])?;
    let found = projects(&said).into_iter().next();
    found.ok_or_else(|| format!("lsattr -pd {}: a project id expected, not {:?}", path.display(), said.trim()))
}

/// The project ids in what `lsattr -p` says: `1000001 -----------------P-- path`.
fn projects(said: &str) -> BTreeSet<u32> {
    said.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// What a tool says.
fn tool(name: &str, arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let out = Command::new(name).args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C").output();
    let out = out.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("{name} is not installed: packages e2fsprogs and quota"),
        _ => format!("{name}: {e}"),
    })?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        let why: String = why.trim().chars().take(300).collect();
        return Err(format!("{name} ended with {}: {why}", out.status));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "0123456789abcdef0123456789abcdef";

    fn settings(base: &Path, after: After) -> Settings {
        let mut settings = Settings::default();
        (settings.storage, settings.storage_after) = (base.to_owned(), after);
        settings
    }

    #[test]
    fn a_directory_is_made_once_found_again_and_kept_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("orders");
        let keeps = settings(&base, After::Keep);
        let path = make(&keeps, ORDER, 1 << 20).unwrap();
        assert_eq!(path, base.join(ORDER));
        fs::write(path.join("data"), "the buyer's").unwrap();
        assert_eq!(make(&keeps, ORDER, 1 << 20).unwrap(), path);
        end(&keeps, ORDER).unwrap();
        assert_eq!(fs::read(path.join("data")).unwrap(), b"the buyer's");
        let removes = settings(&base, After::Remove);
        end(&removes, ORDER).unwrap();
        assert!(!path.exists());
        end(&removes, ORDER).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&base), mode(&make(&keeps, ORDER, 1).unwrap())), (BASE_MODE, MODE));
    }

    #[test]
    fn a_base_that_others_can_write_and_what_is_no_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("orders");
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(make(&settings(&base, After::Keep), ORDER, 1).unwrap_err().contains("go-w"));
        fs::set_permissions(&base, fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::symlink("/etc", base.join(ORDER)).unwrap();
        assert!(make(&settings(&base, After::Keep), ORDER, 1).unwrap_err().contains("no directory"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&base, &link).unwrap();
        assert!(make(&settings(&link, After::Keep), ORDER, 1).unwrap_err().contains("must be a directory"));
    }

    #[test]
    fn a_removed_directory_takes_no_others_along() {
        let dir = tempfile::tempdir().unwrap();
        let (base, others) = (dir.path().join("orders"), dir.path().join("others"));
        fs::create_dir(&others).unwrap();
        fs::write(others.join("file"), "x").unwrap();
        let removes = settings(&base, After::Remove);
        let path = make(&removes, ORDER, 1).unwrap();
        std::os::unix::fs::symlink(&others, path.join("link")).unwrap();
        end(&removes, ORDER).unwrap();
        assert!(!path.exists() && others.join("file").exists());
    }

    /// On a filesystem with project quotas, which `tests/vm/quota.sh` has: each order its own project and limit, also against a
    /// second start, for whoever is not root; and nothing left of one that was removed.
    #[test]
    fn where_there_are_project_quotas_a_directory_is_a_hard_limit() {
        let Some(base) = std::env::var_os("HUFU_TEST_PRJQUOTA") else {
            eprintln!("no project quotas to be had here: not tried");
            return;
        };
        let base = PathBuf::from(base).join("orders");
        let removes = settings(&base, After::Remove);
        let (first, second) = (ORDER, "fedcba9876543210fedcba9876543210");
        let mib = 1 << 20;
        let one = make(&removes, first, 4 * mib).unwrap();
        let two = make(&removes, second, 8 * mib).unwrap();
        let size = |path: &Path| statvfs(path).map(|found| found.f_blocks * found.f_frsize).unwrap();
        assert_eq!((size(&one), size(&two)), (4 * mib, 8 * mib));
        let (a, b) = (project_of(&one).unwrap(), project_of(&two).unwrap());
        assert!(a >= PROJECT_FIRST && b >= PROJECT_FIRST && a != b, "{a} {b}");
        fs::set_permissions(&one, fs::Permissions::from_mode(0o777)).unwrap();
        let writes = |path: &Path, mib: u32| {
            let file = format!("dd if=/dev/zero of={}/file bs=1M count={mib} 2>&1", path.display());
            let out = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "sh", "-c", &file]).output();
            let out = out.unwrap();
            (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
        };
        assert!(writes(&one, 3).0);
        let (done, why) = writes(&one, 5);
        assert!(!done && why.contains("quota"), "{why}");
        assert_eq!(make(&removes, first, 6 * mib).unwrap(), one);
        assert_eq!((size(&one), project_of(&one).unwrap()), (6 * mib, a));
        assert!(writes(&one, 5).0);
        assert!(make(&removes, first, 1 << 50).unwrap_err().contains("does not hold"));
        end(&removes, first).unwrap();
        end(&removes, second).unwrap();
        assert!(!one.exists() && !two.exists());
        let again = make(&removes, first, mib).unwrap();
        assert_eq!((size(&again), project_of(&again).unwrap()), (mib, a), "the id is free again");
        end(&removes, first).unwrap();
    }

    #[test]
    fn mounts_and_projects_are_read_as_they_are_written() {
        for (line, want) in [
            ("29 1 254:0 / /srv/o rw,relatime shared:1 - ext4 /dev/vdb rw,prjquota", true),
            ("29 1 254:0 / /srv/o rw - xfs /dev/vdb rw,attr2,prjquota", true),
            ("29 1 254:0 / /srv/o rw - xfs /dev/vdb rw,noquota", false),
            ("29 1 254:0 / /srv/o rw - ext4 /dev/vdb rw", false),
            ("29 1 0:40 / /srv/o rw - tmpfs tmpfs rw,prjquota", false),
        ] {
            let found = mount(line).unwrap();
            assert_eq!((found.has_projects, found.point), (want, "/srv/o".into()), "{line}");
        }
        assert!(mount("garbage").is_none());
        let said = "1000001 -------------------P-- /o/a\n      0 ---------------------- /o/b\nlsattr: no\n";
        assert_eq!(projects(said), [0, 1_000_001].into());
    }
}
