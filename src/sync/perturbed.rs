//! The usual types, with random pauses around each step, so that threads meet in unusual ways.
//!
//! `PERTURB` is how much: from 0, not at all, to 3; 1 unless set. `PERTURB_SEED` is where the random
//! numbers begin. It is printed, but threads still run as the system has it: the same seed makes the
//! same pauses, not the same run.

pub(crate) mod channel;

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{self, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use crossbeam_channel as user_channel;
pub(crate) use parking_lot::MutexGuard;
pub(crate) use std::{thread, thread_local};

/// How often each kind of pause is made: once in so many steps. Zero is never.
#[derive(Clone, Copy)]
struct Strength {
    give_core_away: u64,
    spin: u64,
    sleep: u64,
}

const STRENGTHS: [Strength; 4] = [
    Strength::new(0, 0, 0),
    Strength::new(64, 128, 2048),
    Strength::new(24, 32, 512),
    Strength::new(8, 16, 64),
];

impl Strength {
    const fn new(give_core_away: u64, spin: u64, sleep: u64) -> Self {
        Strength {
            give_core_away,
            spin,
            sleep,
        }
    }
}

/// The strength, and the seed.
fn settings() -> (Strength, u64) {
    static SETTINGS: OnceLock<(Strength, u64)> = OnceLock::new();
    *SETTINGS.get_or_init(|| {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let strength = number("PERTURB").unwrap_or(1).min(3);
        let seed = number("PERTURB_SEED").unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(1, |since| since.as_micros() as u64)
        });
        eprintln!("perturbed: PERTURB={strength} PERTURB_SEED={seed}");
        (STRENGTHS[strength as usize], seed)
    })
}

/// The calling thread's next random number.
fn random(seed: u64) -> u64 {
    const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;
    static THREADS: atomic::AtomicU64 = atomic::AtomicU64::new(1);
    std::thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        if state.get() == 0 {
            let thread = THREADS.fetch_add(1, Ordering::Relaxed);
            state.set(seed ^ thread.wrapping_mul(STRIDE));
        }
        // SplitMix64.
        let next = state.get().wrapping_add(STRIDE);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// Perhaps pauses.
#[inline(never)]
fn perturb() {
    let (strength, seed) = settings();
    if strength.spin == 0 {
        return;
    }
    let random = random(seed);
    let (choice, amount) = (random >> 32, random & 0xff);
    if choice.is_multiple_of(strength.sleep) {
        thread::sleep(Duration::from_micros(amount));
    } else if choice.is_multiple_of(strength.give_core_away) {
        thread::yield_now();
    } else if choice % strength.spin == 1 {
        (0..4 * amount).for_each(|_| std::hint::spin_loop());
    }
}

/// A step between two pauses.
fn step<R>(step: impl FnOnce() -> R) -> R {
    perturb();
    let result = step();
    perturb();
    result
}

pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn spin_loop() {
    std::hint::spin_loop();
    perturb();
}

pub(crate) fn fence(order: Ordering) {
    step(|| atomic::fence(order));
}

/// An atomic whose steps, as listed, lie between pauses.
macro_rules! atomic {
    ($name:ident: $value:ty {
        $(fn $step:ident($($arg:ident: $type:ty),*) -> $result:ty;)*
    }) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(atomic::$name);

        #[allow(dead_code)]
        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                $name(atomic::$name::new(value))
            }

            pub(crate) fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            $(pub(crate) fn $step(&self, $($arg: $type),*) -> $result {
                step(|| self.0.$step($($arg),*))
            })*

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let update = |value| {
                    let changed = change(value);
                    perturb();
                    changed
                };
                step(|| self.0.fetch_update(set, fetch, update))
            }
        }
    };
}

/// The steps of all atomics, and those of some.
macro_rules! atomics {
    ($($name:ident: $value:ty { $($more:ident)* })*) => {
        $(atomic! {
            $name: $value {
                fn load(order: Ordering) -> $value;
                fn store(value: $value, order: Ordering) -> ();
                fn swap(value: $value, order: Ordering) -> $value;
                fn fetch_or(value: $value, order: Ordering) -> $value;
                fn fetch_and(value: $value, order: Ordering) -> $value;
                fn fetch_xor(value: $value, order: Ordering) -> $value;
                fn compare_exchange(
                    old: $value, new: $value, set: Ordering, fetch: Ordering
                ) -> Result<$value, $value>;
                fn compare_exchange_weak(
                    old: $value, new: $value, set: Ordering, fetch: Ordering
                ) -> Result<$value, $value>;
                $(fn $more(value: $value, order: Ordering) -> $value;)*
            }
        })*
    };
}

atomics! {
    AtomicBool: bool {}
    AtomicU8: u8 { fetch_add fetch_sub fetch_min fetch_max }
    AtomicU64: u64 { fetch_add fetch_sub fetch_min fetch_max }
    AtomicUsize: usize { fetch_add fetch_sub fetch_min fetch_max }
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(parking_lot::Mutex<T>);

#[allow(dead_code)]
impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(parking_lot::Mutex::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

#[allow(dead_code)]
impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        step(|| self.0.lock())
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        step(|| self.0.try_lock())
    }

    pub(crate) fn try_lock_until(&self, end: Instant) -> Option<MutexGuard<'_, T>> {
        step(|| self.0.try_lock_until(end))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(parking_lot::Condvar::new())
    }

    pub(crate) fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        step(|| self.0.wait(guard));
    }

    pub(crate) fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        end: Instant,
    ) -> parking_lot::WaitTimeoutResult {
        step(|| self.0.wait_until(guard, end))
    }

    pub(crate) fn notify_one(&self) {
        step(|| self.0.notify_one());
    }

    pub(crate) fn notify_all(&self) {
        step(|| self.0.notify_all());
    }
}
