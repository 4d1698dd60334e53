//! Functions that come as a zip in base64. It stays as it is, in memory, and what is
//! imported is unpacked then: nothing is written anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::DeflateDecoder;
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive};

/// What an archive may hold, as for the other runtimes.
const MOST_BYTES: u64 = 512 * 1024 * 1024;
const MOST_ENTRIES: u64 = 50_000;

/// The kind of a file in the rights that Unix notes down, and those that may come.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// A zip whose directory was read.
pub struct Archive {
    zip: ZipSliceArchive<Vec<u8>>,
    files: BTreeMap<String, Entry>,
}

struct Entry {
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
}

impl Archive {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// It is no archive that may be used; a phrase that says why.
    pub fn open(code: &str) -> Result<Self, String> {
        let mut packed: Vec<u8> = code.bytes().collect();
        packed.retain(|byte| !b" \t\r\n".contains(byte));
        let packed = STANDARD
            .decode(packed)
            .map_err(|error| format!("the code is not base64: {error}"))?;
        let zip = ZipArchive::from_slice(packed).map_err(unusable)?;
        if zip.entries_hint() > MOST_ENTRIES {
            return Err(too_many(zip.entries_hint()));
        }
        let mut files = BTreeMap::new();
        let mut directories = BTreeSet::new();
        let mut total = 0_u64;
        let mut count = 0;
        let mut entries = zip.entries();
        while let Some(entry) = entries.next_entry().map_err(unusable)? {
            count += 1;
            if count > MOST_ENTRIES {
                return Err(too_many(count));
            }
            let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
            let leads_out = name.is_empty()
                || name.starts_with('/')
                || name.contains('\\')
                || name.split('/').any(|part| part == "..");
            if leads_out {
                return Err(format!(
                    "the archive's entry {name:?} would lie outside its directory"
                ));
            }
            // Who packed it on a system without such rights left them out.
            let kind = (entry.external_attributes() >> 16) & KIND;
            if ![0, REGULAR, DIRECTORY].contains(&kind) {
                return Err(format!(
                    "the archive's entry {name:?} is neither a file nor a directory"
                ));
            }
            total = total.saturating_add(entry.uncompressed_size_hint());
            for (at, _) in name.match_indices('/') {
                directories.insert(name[..at].to_owned());
            }
            if entry.is_dir() {
                continue;
            }
            let name = name
                .split('/')
                .filter(|part| *part != ".")
                .collect::<Vec<_>>()
                .join("/");
            let entry = Entry {
                place: entry.wayfinder(),
                method: entry.compression_method(),
                is_encrypted: entry.flags().is_encrypted(),
            };
            files.insert(name, entry);
        }
        if total > MOST_BYTES {
            return Err(format!(
                "the archive unpacks to {total} bytes; {MOST_BYTES} are allowed"
            ));
        }
        if let Some(name) = files.keys().find(|name| directories.contains(*name)) {
            return Err(format!(
                "the archive's entry {name:?} is both a file and a directory"
            ));
        }
        Ok(Self { zip, files })
    }

    /// Its files' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// True if it holds a file of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Unpacks a file; `None` if there is none of that name.
    ///
    /// # Errors
    /// Its data is not what the archive says of it.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Result<Vec<u8>, String>> {
        let entry = self.files.get(name)?;
        Some(
            self.unpack(entry)
                .map_err(|error| format!("{name}: {}", unusable(error))),
        )
    }

    fn unpack(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let found = self.zip.get_entry(entry.place).map_err(io::Error::other)?;
        if entry.is_encrypted {
            return Err(io::Error::other("it is encrypted"));
        }
        let mut bytes = Vec::new();
        // No more than this is ever read, whatever the data says.
        match entry.method {
            CompressionMethod::STORE => {
                found
                    .verifying_reader(found.data())
                    .take(MOST_BYTES)
                    .read_to_end(&mut bytes)?;
            }
            CompressionMethod::DEFLATE => {
                found
                    .verifying_reader(DeflateDecoder::new(found.data()))
                    .take(MOST_BYTES)
                    .read_to_end(&mut bytes)?;
            }
            _ => {
                return Err(io::Error::other(
                    "it is packed by a method that is not there",
                ));
            }
        }
        Ok(bytes)
    }
}

fn unusable(error: impl std::fmt::Display) -> String {
    format!("the code is not a usable zip archive: {error}")
}

fn too_many(count: u64) -> String {
    format!("the archive has {count} entries; {MOST_ENTRIES} are allowed")
}
