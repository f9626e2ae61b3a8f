// SPDX-License-Identifier: MIT

//! The core's faults as sentences.

use rwsnap_core::fault::Fault;

/// What happened and what to do.
#[must_use]
pub fn text(fault: Fault) -> String {
    match fault {
        Fault::Io => "a device failed, or is missing; see the kernel's log".to_owned(),
        Fault::NoSpace => {
            "no space: the save volume is full, or the clone is at its quota; destroy what is not \
             needed, or give it more room"
                .to_owned()
        }
        Fault::NoMemory => "memory was not to be had".to_owned(),
        Fault::Range => "it lies beyond the end of the volume".to_owned(),
        Fault::ReadOnly => "it cannot be written; make a clone of it".to_owned(),
        Fault::Lost => {
            "the data is lost: it could not be read when it had to be copied; `rwsnap map` shows \
             where, and `rwsnap export --skip-lost` reads out the rest"
                .to_owned()
        }
        Fault::Fenced => {
            "the snapshot was given up, or the pool is fenced after an error; `rwsnap status` says"
                .to_owned()
        }
        Fault::Corrupt => {
            "metadata on the save volume is corrupt; end its server and run `rwsnap check`"
                .to_owned()
        }
        Fault::Bug(line) => format!("a mistake in rwsnap (line {line}); please report it"),
    }
}
