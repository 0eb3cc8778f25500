//! The walk over the files below the given paths, one directory's listing at a time.
//!
//! # Order
//!
//! Below one path the files come in the order of their whole paths' bytes, as `LC_ALL=C sort` would
//! put them. A depth-first walk yields this order if each directory is sorted as though its name
//! ended in a slash; so that is how names are kept here, and the slash also says what is a directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::vec;

use crate::problem::Problem;

/// Yields every regular file below the roots. Holds the listings of the directories between the
/// root and the present file, and nothing else, however large the tree is.
#[derive(Debug)]
pub(crate) struct Walk {
    roots: vec::IntoIter<PathBuf>,
    listings: Vec<Listing>,
    /// The path of the directory that is listed last, and a slash.
    path: Vec<u8>,
    stop: Arc<AtomicBool>,
}

/// What is left to do of one directory. All names are in one allocation: there may be a million.
#[derive(Debug, Default)]
struct Listing {
    /// The length of the directory's path, with its slash.
    depth: usize,
    names: Vec<u8>,
    /// Where each name is, the last one first.
    left: Vec<Range<usize>>,
}

impl Walk {
    /// A walk that ends early once `stop` is set.
    pub(crate) fn new(roots: Vec<PathBuf>, stop: Arc<AtomicBool>) -> Self {
        Walk {
            roots: roots.into_iter(),
            listings: Vec::new(),
            path: Vec::new(),
            stop,
        }
    }

    /// A path that was given on the command line: a link is followed here, and only here.
    fn root(&mut self, root: PathBuf) -> Result<Option<PathBuf>, Problem> {
        let found = match fs::metadata(&root) {
            Ok(found) => found,
            Err(error) => return Err(Problem { path: root, error }),
        };
        if found.is_file() {
            return Ok(Some(root));
        }
        if !found.is_dir() {
            let error = io::Error::other("neither a regular file nor a directory");
            return Err(Problem { path: root, error });
        }
        self.path = root.into_os_string().into_vec();
        if !self.path.ends_with(b"/") {
            self.path.push(b'/');
        }
        self.list().map(|()| None)
    }

    /// Lists the directory `self.path`. If reading breaks off, what was read stays in the listing.
    fn list(&mut self) -> Result<(), Problem> {
        let mut listing = Listing {
            depth: self.path.len(),
            ..Listing::default()
        };
        let read = listing.fill(OsStr::from_bytes(&self.path), &self.stop);
        self.listings.push(listing);
        read.map_err(|error| {
            let path = match self.path.as_slice() {
                b"/" => b"/",
                path => path.strip_suffix(b"/").unwrap_or(path),
            };
            let path = OsStr::from_bytes(path).into();
            Problem { path, error }
        })
    }
}

impl Iterator for Walk {
    type Item = Result<PathBuf, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.stop.load(Relaxed) {
            let step = match self.listings.last_mut() {
                None => self.roots.next().map(|root| self.root(root))?,
                Some(listing) => {
                    self.path.truncate(listing.depth);
                    match listing.left.pop() {
                        None => {
                            self.listings.pop();
                            continue;
                        }
                        Some(name) => {
                            self.path.extend_from_slice(&listing.names[name]);
                            if self.path.ends_with(b"/") {
                                self.list().map(|()| None)
                            } else {
                                Ok(Some(OsString::from_vec(self.path.clone()).into()))
                            }
                        }
                    }
                }
            };
            if let Some(found) = step.transpose() {
                return Some(found);
            }
        }
        None
    }
}

impl Listing {
    fn fill(&mut self, directory: &OsStr, stop: &AtomicBool) -> io::Result<()> {
        let mut read = Ok(());
        for entry in fs::read_dir(Path::new(directory))? {
            if stop.load(Relaxed) {
                break;
            }
            match entry {
                Ok(entry) => self.note(&entry),
                Err(error) => read = Err(error),
            }
        }
        let names = &self.names;
        self.left
            .sort_unstable_by(|a, b| names[b.clone()].cmp(&names[a.clone()]));
        read
    }

    fn note(&mut self, entry: &fs::DirEntry) {
        let start = self.names.len();
        let is_directory = match entry.file_type() {
            Ok(found) if found.is_dir() => true,
            Ok(found) if !found.is_file() => return,
            // If nobody can say what it is, opening it will tell what is wrong.
            Ok(_) | Err(_) => false,
        };
        self.names.extend_from_slice(entry.file_name().as_bytes());
        if is_directory {
            self.names.push(b'/');
        }
        self.left.push(start..self.names.len());
    }
}
