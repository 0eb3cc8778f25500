//! Cancel tokens: a tree of flags with deadlines, which threads can check and wait on.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::sync::park::{Parker, Wake};
use crate::sync::time;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering::SeqCst, Weak, fence};

/// Tells work that it is no longer wanted. Cheap to clone; all clones are the same token.
///
/// Once a token has fired, it stays fired. A [`child`](Self::child) fires with its parent, never the
/// other way round. A token with a deadline counts as fired from the deadline on. No thread watches
/// the clock for that: threads that wait on the token wait until the deadline at most.
///
/// ```
/// use worker_pool::CancelToken;
///
/// let all = CancelToken::new();
/// let one = all.child();
/// one.cancel();
/// assert!(one.is_cancelled() && !all.is_cancelled());
/// let another = all.child();
/// all.cancel();
/// assert!(another.is_cancelled());
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

/// Kept small, since there is one for each handle: what only few tokens have is boxed.
struct Node {
    fired: AtomicBool,
    /// Whom to tell when the token fires. `None` if there was no watcher so far.
    watchers: Mutex<Option<Box<Watchers>>>,
    /// The earliest of its own deadline and its parents'.
    deadline: Option<Instant>,
    parents: Option<Box<Parents>>,
}

/// A node's registrations with its parents. They end with the node.
struct Parents(Vec<Watch>);

#[derive(Default)]
struct Watchers {
    next: u64,
    /// Most tokens have one watcher at a time.
    first: Option<(u64, Watcher)>,
    more: BTreeMap<u64, Watcher>,
}

impl Watchers {
    fn insert(&mut self, watcher: Watcher) -> u64 {
        let key = self.next;
        self.next += 1;
        if self.first.is_none() {
            self.first = Some((key, watcher));
        } else {
            self.more.insert(key, watcher);
        }
        key
    }

    fn remove(&mut self, key: u64) -> Option<Watcher> {
        match self.first.take_if(|(first, _)| *first == key) {
            Some((_, watcher)) => Some(watcher),
            None => self.more.remove(&key),
        }
    }
}

impl Node {
    fn new(deadline: Option<Instant>, parents: Option<Box<Parents>>) -> Self {
        Node {
            fired: AtomicBool::new(false),
            watchers: Mutex::default(),
            deadline,
            parents,
        }
    }

    fn take_parents(&mut self) -> Vec<Watch> {
        self.parents
            .take()
            .map_or_else(Vec::new, |parents| parents.0)
    }
}

enum Watcher {
    Child(Weak<Node>),
    Waiter(Arc<dyn Wake>),
}

/// A watcher's registration with a token. It ends when dropped.
pub(crate) struct Watch {
    /// `None` once it has ended.
    node: Option<Arc<Node>>,
    /// `None` if the token had fired before the registration.
    key: Option<u64>,
}

impl Watch {
    /// Ends the registration. Returns the token's node if this was the last reference to it.
    fn end(&mut self) -> Option<Node> {
        let node = self.node.take()?;
        if let Some(key) = self.key {
            let mut watchers = node.watchers.lock();
            let removed = watchers.as_mut().and_then(|all| all.remove(key));
            drop(watchers);
            drop(removed); // without the lock
        }
        Arc::into_inner(node)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A loop, not a recursion: chains of children may be long.
        let mut ended = self.take_parents();
        while let Some(mut watch) = ended.pop() {
            if let Some(mut parent) = watch.end() {
                ended.extend(parent.take_parents());
            }
        }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        CancelToken::new()
    }
}

impl CancelToken {
    /// A token that fires when [`cancel`](Self::cancel) is called, and not before.
    pub fn new() -> Self {
        CancelToken::build(None, &[])
    }

    /// A token that fires at `deadline`, or earlier if it is cancelled.
    pub fn with_deadline(deadline: Instant) -> Self {
        CancelToken::build(Some(deadline), &[])
    }

    /// A token that fires when this one does, and can also be cancelled by itself.
    pub fn child(&self) -> Self {
        CancelToken::build(None, &[self])
    }

    /// A child that also fires at `deadline`. The parent's deadline applies to it as well.
    pub fn child_with_deadline(&self, deadline: Instant) -> Self {
        CancelToken::build(Some(deadline), &[self])
    }

    /// Identifies this token and its clones, while one of them lives.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.node).addr()
    }

    pub(crate) fn child_of_both(&self, other: &CancelToken) -> Self {
        CancelToken::build(None, &[self, other])
    }

    fn build(deadline: Option<Instant>, parents: &[&CancelToken]) -> Self {
        let inherited = parents.iter().filter_map(|parent| parent.node.deadline);
        let deadline = inherited.chain(deadline).min();
        if parents.is_empty() {
            let node = Arc::new(Node::new(deadline, None));
            return CancelToken { node };
        }
        let node = Arc::new_cyclic(|child| {
            let register =
                |parent: &&CancelToken| parent.register(Watcher::Child(Weak::clone(child)));
            let parents = Parents(parents.iter().map(register).collect());
            Node::new(deadline, Some(Box::new(parents)))
        });
        // A parent that fired before the registration did not tell this node. One that fires now
        // either finds this node complete, or the load below sees that it has fired.
        fence(SeqCst);
        let parents = node.parents.iter().flat_map(|parents| &parents.0);
        let mut parents = parents.filter_map(|watch| watch.node.as_ref());
        if parents.any(|parent| parent.fired.load(SeqCst)) {
            node.fired.store(true, SeqCst);
        }
        CancelToken { node }
    }

    /// Is this the only reference to it, and has it never been cancelled?
    pub(crate) fn is_unused(&mut self) -> bool {
        Arc::get_mut(&mut self.node).is_some_and(|node| !*node.fired.get_mut())
    }

    /// Fires the token and its children, and wakes the threads that wait on them. To call it again has
    /// no effect.
    pub fn cancel(&self) {
        // A loop, not a recursion: chains of children may be long.
        let mut firing = vec![Arc::clone(&self.node)];
        while let Some(node) = firing.pop() {
            let watchers = {
                let mut watchers = node.watchers.lock();
                if node.fired.swap(true, SeqCst) {
                    continue;
                }
                watchers.take()
            };
            fence(SeqCst);
            let Some(watchers) = watchers else { continue };
            for (_, watcher) in watchers.first.into_iter().chain(watchers.more) {
                match watcher {
                    Watcher::Child(child) => firing.extend(child.upgrade()),
                    Watcher::Waiter(waiter) => waiter.wake(),
                }
            }
        }
    }

    /// Has it been cancelled, or its deadline passed?
    pub fn is_cancelled(&self) -> bool {
        self.fired_by().is_some()
    }

    /// When it fires by itself, if it has a deadline. A parent's deadline counts.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline
    }

    /// Blocks until the token fires.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Blocks until the token fires, for at most `timeout`. Returns whether it fired.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(time::now().checked_add(timeout))
    }

    fn wait_until(&self, until: Option<Instant>) -> bool {
        let parker = Parker::current();
        let _watch = self.watch(Arc::clone(&parker) as Arc<dyn Wake>);
        let until = earliest(until, self.node.deadline);
        loop {
            if self.is_cancelled() {
                return true;
            }
            if until.is_some_and(|at| time::now() >= at) {
                return false;
            }
            parker.park(until);
        }
    }

    /// Why the token counts as fired, if it does.
    pub(crate) fn fired_by(&self) -> Option<Fired> {
        if self.node.fired.load(SeqCst) {
            return Some(Fired::Cancel);
        }
        match self.node.deadline {
            Some(at) if time::now() >= at => Some(Fired::Deadline),
            _ => None,
        }
    }

    /// Wakes `waiter` when the token is cancelled, until the watch is dropped. The caller checks the
    /// token after this call: one that was cancelled before does not wake it.
    pub(crate) fn watch(&self, waiter: Arc<dyn Wake>) -> Watch {
        self.register(Watcher::Waiter(waiter))
    }

    /// The same for as long as the token lives.
    pub(crate) fn watch_for_good(&self, waiter: Arc<dyn Wake>) {
        let mut watch = self.watch(waiter);
        watch.node = None; // its end would end the registration
    }

    fn register(&self, watcher: Watcher) -> Watch {
        let mut watchers = self.node.watchers.lock();
        // `cancel` sets `fired` under this lock: a watcher is either told, or sees the flag.
        let fired = self.node.fired.load(SeqCst);
        let key = (!fired).then(|| watchers.get_or_insert_default().insert(watcher));
        Watch {
            node: Some(Arc::clone(&self.node)),
            key,
        }
    }
}

/// What made a token count as fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fired {
    Cancel,
    Deadline,
}

/// The earlier of two moments. `None` stands for never.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .field("deadline", &self.node.deadline)
            .finish()
    }
}

#[cfg(all(test, worker_pool_shuttle))]
mod model;
