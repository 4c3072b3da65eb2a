//! The sandbox: what the process can do once everything is open.
//!
//! A front end, and the driver behind it, are not trusted. Code that they might get to run in this
//! process finds two limits:
//!
//! * **seccomp**: only the system calls that a running device makes. Opening a file fails, because
//!   libraries do it in passing and go on without the file. Any other call ends the process (SIGSYS),
//!   because it comes from an attack or from a bug, and an error would let an attack go on. Nothing is
//!   executed or connected, memory is never executable, and no other process is signalled.
//! * **Landlock**, as far as the kernel has it: no file is reached by a path, but that files in the
//!   folders of the sockets are removed, as the end of the service requires. No TCP port and no
//!   abstract socket is reached, and no other process is signalled. These limits hold for operations
//!   of `io_uring`, too, which seccomp does not see.

use std::{collections::BTreeMap, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::failure::{Failure, Result};

/// System calls that are allowed with any arguments.
const ALLOWED: &[c_long] = &[
    // Descriptors that are open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_io_uring_enter,
    // Sockets that are open.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Events.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    // Memory. The region of requests in flight is a file in memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_memfd_create,
    // The socket of a device, at the end. Landlock limits the path.
    libc::SYS_unlinkat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    // Threads, time and signals.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that only older architectures have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_unlink,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_time,
    libc::SYS_gettimeofday,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Calls that fail with EACCES. The standard library, for instance, looks into a file before it
/// counts the processors in another way.
const DENIED: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
];
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[c_long] = &[libc::SYS_open, libc::SYS_readlink, libc::SYS_access];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[c_long] = &[];

/// Requests of `ioctl` that are allowed: those of files, sockets and terminals.
const REQUESTS: &[u64] = &[
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TCGETS2,
    libc::TIOCGWINSZ,
    // A transfer on an I2C bus (I2C_RDWR).
    0x0707,
];

/// Types of `ioctl` requests that are allowed: of block devices, GPIO lines and SPI devices.
const REQUEST_TYPES: &[u64] = &[0x12, 0xb4, 0x6b];

/// Naming the mappings of anonymous memory, as newer C libraries do.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Limits the process. Files in the folders of these sockets can still be removed.
///
/// # Errors
/// The kernel or the architecture has no such limits.
pub(super) fn enter<'p>(sockets: impl Iterator<Item = &'p Path>) -> Result<()> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::work(format_args!(
            "no sandbox: {why}; --no-sandbox goes on without it"
        ))
    };
    limit_paths(sockets).map_err(|why| failed(&why))?;
    // Of several filters, the strictest counts.
    let denied = DENIED.iter().chain(DENIED_HERE).copied();
    let filters = [
        // The arguments of `clone3` are in memory, where no filter sees them. This error makes the C
        // library use `clone`.
        failing([libc::SYS_clone3].into_iter(), libc::ENOSYS),
        failing(denied, libc::EACCES),
        only_allowed(),
    ];
    for filter in filters {
        let filter = filter.map_err(|why| failed(&why))?;
        seccompiler::apply_filter_all_threads(&filter).map_err(|why| failed(&why))?;
    }
    Ok(())
}

/// Forbids every access to a path, but the removal of files in the folders of these sockets.
fn limit_paths<'p>(
    sockets: impl Iterator<Item = &'p Path>,
) -> std::result::Result<(), landlock::RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    for socket in sockets {
        let path = std::path::absolute(socket).ok();
        let folder = path.as_deref().and_then(Path::parent);
        // No file can be removed in a folder that cannot be opened.
        if let Some(Ok(folder)) = folder.map(PathFd::new) {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::RemoveFile))?;
        }
    }
    rules.restrict_self().map(|_| ())
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;
type Built<T> = std::result::Result<T, seccompiler::BackendError>;

fn program(rules: Rules, others: SeccompAction, these: SeccompAction) -> Built<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, others, these, architecture)?.try_into()
}

/// Makes these calls fail with this error.
fn failing(calls: impl Iterator<Item = c_long>, error: i32) -> Built<BpfProgram> {
    let rules = calls.map(|call| (call, Vec::new())).collect();
    let error = SeccompAction::Errno(u32::try_from(error).unwrap_or(0));
    program(rules, SeccompAction::Allow, error)
}

fn only_allowed() -> Built<BpfProgram> {
    let anything = |call: &c_long| (*call, Vec::new());
    // The other filters make some of these calls fail.
    let failing = DENIED.iter().chain(DENIED_HERE).chain(&[libc::SYS_clone3]);
    let calls = ALLOWED.iter().chain(ALLOWED_HERE).chain(failing);
    let mut rules: Rules = calls.map(anything).collect();
    let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or(u64::MAX);
    rules.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
    let executable = u64::try_from(libc::PROT_EXEC).unwrap_or(u64::MAX);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![masked(2, executable, 0)?]);
    }
    let name = u64::try_from(libc::PR_SET_NAME).unwrap_or(u64::MAX);
    let names = [name, PR_SET_VMA].map(|option| equal(0, option));
    rules.insert(libc::SYS_prctl, names.into_iter().collect::<Built<_>>()?);
    let requests = REQUESTS.iter().map(|request| equal(1, *request));
    let types = REQUEST_TYPES
        .iter()
        .map(|kind| masked(1, 0xff00, *kind << 8));
    rules.insert(
        libc::SYS_ioctl,
        requests.chain(types).collect::<Built<_>>()?,
    );
    // A panic or an abort signals its own thread.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![equal(0, own)?]);
    program(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

fn equal(argument: u8, value: u64) -> Built<SeccompRule> {
    rule(argument, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Built<SeccompRule> {
    rule(argument, SeccompCmpOp::MaskedEq(mask), value)
}

fn rule(argument: u8, operation: SeccompCmpOp, value: u64) -> Built<SeccompRule> {
    let length = SeccompCmpArgLen::Dword;
    SeccompRule::new(vec![SeccompCondition::new(
        argument, length, operation, value,
    )?])
}
