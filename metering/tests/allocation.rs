//! In the steady state a sampling round allocates nothing: counted by an allocator that counts. One test alone, because it counts
//! for the whole process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(unsafe_code, reason = "an allocator cannot be written without; it is the system's, and a count")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use hufu_metering::{At, Sampler, Target, window::KEPT_ORDERS};
use hufu_trade::resource::{KINDS, Resource};
use rustix::process::{Resource as Limited, getrlimit, setrlimit};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn at(seconds: u64) -> At {
    let boot_ns = seconds * 1_000_000_000;
    At { real_ns: 1_700_000_000_000_000_000 + i64::try_from(boot_ns).unwrap(), boot_ns, mono_ns: boot_ns }
}

#[test]
fn a_round_allocates_nothing_once_all_is_known() {
    let mut limit = getrlimit(Limited::Nofile);
    limit.current = limit.maximum;
    setrlimit(Limited::Nofile, limit).unwrap();
    let counted = |kind: &str, orders: usize| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(kind);
        let mut sampler = Sampler::new(&root, 1_000_000_000, at(100)).unwrap();
        for index in 0..orders {
            let target = Target::Cgroup { path: "orders/a".to_owned() };
            let key = u128::try_from(index).unwrap().to_be_bytes();
            sampler.start(key, target, &KINDS.map(Resource::used), &[], None, at(100)).unwrap();
        }
        (101..111).for_each(|second| sampler.tick(at(second)));
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        // Ten of these read the quality, too.
        (111..211).for_each(|second| sampler.tick(at(second)));
        let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
        sampler.close(at(211), at(211).real_ns);
        assert!(
            ALLOCATIONS.load(Ordering::Relaxed) > before + made,
            "the allocator counts: a window's draft is allocated"
        );
        made
    };
    for kind in ["v1", "v2", "hybrid"] {
        assert_eq!(counted(kind, 3), 0, "{kind}, files kept open");
    }
    // The last ones are read below their directories.
    assert_eq!(counted("v2", KEPT_ORDERS + 4), 0, "more orders than keep their files open");
}
