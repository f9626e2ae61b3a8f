// SPDX-License-Identifier: MIT

//! The cases: shell scripts that run in the guest.

mod header;
pub(crate) mod plan;

use std::fs;

use crate::failure::{fail, Context, Result};
use crate::kernel::Kind;
use crate::places;

pub(crate) use header::{Case, Disk, Medium};

/// What cases source; it is none itself.
const LIBRARY: &str = "lib";

/// Every case, by name.
pub(crate) fn all() -> Result<Vec<Case>> {
    let folder = places::ktest().join("cases");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&folder).about(&folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "sh") && name != LIBRARY {
            cases.push(Case::parse(&name, &fs::read_to_string(&path).about(&path)?)?);
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

/// Whether a name means this case: `errors` means `errors_read` as well.
fn is_called(case: &Case, name: &str) -> bool {
    case.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The cases for a kernel: those that are named, or all, those of the full run if it is one.
pub(crate) fn chosen(kind: Kind, named: &[String], full: bool) -> Result<Vec<Case>> {
    let all = all()?;
    let no_case = |name: &&String| !all.iter().any(|case| is_called(case, name));
    if let Some(unknown) = named.iter().find(no_case) {
        let known: Vec<_> = all.iter().map(|case| case.name.as_str()).collect();
        return fail(format!("there is no case {unknown}; there are: {}", known.join(" ")));
    }
    let wanted = |case: &Case| match named.is_empty() {
        true => full || !case.full,
        false => named.iter().any(|name| is_called(case, name)),
    };
    Ok(all.into_iter().filter(|case| case.kinds.contains(&kind) && wanted(case)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_cases_can_be_read_and_chosen() {
        let all = all().unwrap();
        assert!(all.iter().any(|case| case.name == "boot" && !case.module));
        let one = chosen(Kind::Plain, &["boot".into()], false).unwrap();
        assert_eq!(one.len(), 1);
        let errors = chosen(Kind::Plain, &["errors".into()], false).unwrap();
        assert!(errors.len() > 1 && errors.iter().all(|case| case.name.starts_with("errors_")));
        let said = chosen(Kind::Plain, &["nothing".into()], false).unwrap_err().to_string();
        assert!(said.contains("nothing") && said.contains("boot"), "{said}");
        let full = chosen(Kind::Plain, &[], true).unwrap().len();
        assert!(full >= chosen(Kind::Plain, &[], false).unwrap().len());
    }
}
