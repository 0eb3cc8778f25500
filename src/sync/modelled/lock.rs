//! The mutex and condition variable, with the interface of `parking_lot`'s.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Instant;

use crate::sync::modelled::{is_late, pass_until, step};

#[derive(Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` only while its thread waits for a condition.
    guard: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            guard: Some(self.acquire()),
        }
    }

    fn acquire(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard {
            mutex: self,
            guard: Some(guard),
        })
    }

    pub(crate) fn try_lock_until(&self, end: Instant) -> Option<MutexGuard<'_, T>> {
        loop {
            if let Some(guard) = self.try_lock() {
                return Some(guard);
            }
            if is_late() {
                pass_until(end);
                return None;
            }
            shuttle::thread::yield_now();
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    #[allow(dead_code)]
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is locked")
    }
}

/// Those who wait, each with a flag that says that it was notified.
#[derive(Default)]
pub(crate) struct Condvar(std::sync::Mutex<VecDeque<Arc<Waiter>>>);

struct Waiter {
    notified: AtomicBool,
    thread: shuttle::thread::Thread,
}

pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(std::sync::Mutex::new(VecDeque::new()))
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those who wait, and then leaves the lock, in one step for those who notify under it.
    fn join<T>(&self, guard: &mut MutexGuard<'_, T>) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            notified: AtomicBool::new(false),
            thread: shuttle::thread::current(),
        });
        self.waiters().push_back(Arc::clone(&waiter));
        guard.guard = None;
        waiter
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let waiter = self.join(guard);
        while !waiter.notified.load(Relaxed) {
            shuttle::thread::park();
        }
        guard.guard = Some(guard.mutex.acquire());
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        end: Instant,
    ) -> WaitTimeoutResult {
        let waiter = self.join(guard);
        let mut late = false;
        while !late && !waiter.notified.load(Relaxed) {
            shuttle::thread::yield_now();
            late = is_late() && !waiter.notified.load(Relaxed);
        }
        if late {
            self.waiters().retain(|other| !Arc::ptr_eq(other, &waiter));
            pass_until(end);
        }
        guard.guard = Some(guard.mutex.acquire());
        WaitTimeoutResult(late)
    }

    pub(crate) fn notify_one(&self) {
        step();
        let first = self.waiters().pop_front();
        first.iter().for_each(|waiter| waiter.notify());
    }

    pub(crate) fn notify_all(&self) {
        step();
        let all = std::mem::take(&mut *self.waiters());
        all.iter().for_each(|waiter| waiter.notify());
    }
}

impl Waiter {
    fn notify(&self) {
        self.notified.store(true, Relaxed);
        self.thread.unpark();
    }
}
