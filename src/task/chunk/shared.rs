//! The chunks that some worker is at and that have inputs which nobody has claimed: idle workers
//! join in.

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering::SeqCst};
use crate::task::chunk::Chunk;

pub(crate) struct SharedChunks<P, O, E> {
    /// How many are listed, for those who only look.
    count: AtomicUsize,
    chunks: Mutex<Vec<Arc<Chunk<P, O, E>>>>,
}

impl<P, O, E> SharedChunks<P, O, E> {
    pub(crate) fn new() -> Self {
        SharedChunks {
            count: AtomicUsize::new(0),
            chunks: Mutex::default(),
        }
    }

    /// Is there anything to join?
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// Others may join in.
    pub(crate) fn list(&self, chunk: &Arc<Chunk<P, O, E>>) {
        let mut chunks = self.chunks.lock();
        chunks.push(Arc::clone(chunk));
        self.count.store(chunks.len(), SeqCst);
    }

    /// Nothing is left for others.
    pub(crate) fn unlist(&self, chunk: &Arc<Chunk<P, O, E>>) {
        let mut chunks = self.chunks.lock();
        chunks.retain(|other| !Arc::ptr_eq(other, chunk));
        self.count.store(chunks.len(), SeqCst);
    }

    /// Takes all of them off the list.
    pub(crate) fn take_all(&self) -> Vec<Arc<Chunk<P, O, E>>> {
        let mut chunks = self.chunks.lock();
        self.count.store(0, SeqCst);
        std::mem::take(&mut *chunks)
    }

    /// The oldest chunk that has something left.
    pub(crate) fn join(&self) -> Option<Arc<Chunk<P, O, E>>> {
        let mut done = Vec::new(); // dropped after the lock
        let mut chunks = self.chunks.lock();
        let mut found = None;
        chunks.retain(|chunk| {
            let left = chunk.left() > 0;
            if !left {
                done.push(Arc::clone(chunk));
            } else if found.is_none() {
                found = Some(Arc::clone(chunk));
            }
            left
        });
        self.count.store(chunks.len(), SeqCst);
        found
    }
}
