//! The chunks that some worker runs and that have free inputs: idle workers help with them.

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering::SeqCst};
use crate::task::chunk::Chunk;

pub(crate) struct SharedChunks<P, O, E> {
    /// How many are listed, readable without the lock.
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

    /// Is there no chunk to help with?
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// Lets other workers join this chunk.
    pub(crate) fn list(&self, chunk: &Arc<Chunk<P, O, E>>) {
        let mut chunks = self.chunks.lock();
        chunks.push(Arc::clone(chunk));
        self.count.store(chunks.len(), SeqCst);
    }

    /// Nothing of this chunk is left for other workers.
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

    /// The oldest chunk that has free inputs. Chunks without any are taken off the list.
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
