//! The consumer's end of a chunk: takes the results.

use crate::sync::Arc;
use crate::task::chunk::progress::Progress;
use crate::task::chunk::taken::TakenSet;
use crate::task::chunk::{Chunk, ChunkHeader, Load, Outcome};

/// Takes a chunk's results; each chunk has one reader. It keeps to itself what it took: marks beside
/// the results would take their cache lines from the workers.
pub(crate) struct Reader<P, O, E> {
    chunk: Arc<Chunk<P, O, E>>,
    /// Every result has been stored.
    finished: bool,
    taken: TakenSet,
}

impl<P, O, E> Reader<P, O, E> {
    /// A chunk, and the only reader of its results.
    pub(crate) fn of_new_chunk(
        header: ChunkHeader,
        load: Load<P, O, E>,
        progress: Arc<Progress>,
    ) -> (Arc<Chunk<P, O, E>>, Self) {
        let chunk = Arc::new(Chunk::new(header, load, progress));
        let reader = Reader {
            chunk: Arc::clone(&chunk),
            finished: false,
            taken: TakenSet::default(),
        };
        (chunk, reader)
    }

    pub(crate) fn chunk(&self) -> &Arc<Chunk<P, O, E>> {
        &self.chunk
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.chunk.full.len()
    }

    /// Has every result been stored, taken or not?
    #[inline]
    pub(crate) fn is_finished(&mut self) -> bool {
        self.finished = self.finished || self.chunk.is_finished();
        self.finished
    }

    /// The memory of a chunk whose results were all taken, unless another owner of the chunk is left.
    pub(crate) fn recycle(mut self) -> Option<Load<P, O, E>> {
        if self.taken.len() < self.len() {
            return None;
        }
        let chunk = Arc::get_mut(&mut self.chunk)?;
        let (slots, full) = (&mut chunk.slots, &mut chunk.full);
        Some(Load::in_place_of(
            std::mem::take(slots),
            std::mem::take(full),
        ))
    }

    /// The payloads of a chunk that was not accepted, where they lie. The caller is its last owner, and
    /// nobody claimed anything.
    ///
    /// # Panics
    /// If it is not so.
    pub(crate) fn take_back(mut self) -> Load<P, O, E> {
        let chunk = Arc::get_mut(&mut self.chunk).expect("nobody else has the chunk");
        let len = chunk.full.len();
        let all = chunk.claims.get_mut().take(len);
        assert!(
            all.is_some_and(|all| all.len() == len),
            "something was claimed"
        );
        Load {
            slots: std::mem::take(&mut chunk.slots),
            full: std::mem::take(&mut chunk.full),
        }
    }

    /// Takes the result of an input, if it is there and was not taken before.
    #[inline(always)]
    pub(crate) fn take(&mut self, index: usize) -> Option<Outcome<P, O, E>> {
        if !(self.finished || self.chunk.is_full(index)) || !self.taken.insert(index) {
            return None;
        }
        Some(self.chunk.result(index))
    }

    /// Is the result of this input there, and was not taken before?
    pub(crate) fn is_full(&self, index: usize) -> bool {
        self.chunk.is_full(index) && !self.is_taken(index)
    }

    /// Was the result of this input taken?
    pub(crate) fn is_taken(&self, index: usize) -> bool {
        self.taken.contains(index)
    }
}

impl<P, O, E> Drop for Reader<P, O, E> {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        let first = self.chunk.taken.set(taken);
        debug_assert!(first.is_ok(), "there is one reader");
    }
}
