// SPDX-License-Identifier: MIT

//! Debian's packages, of the machine's own suites and of others.
//!
//! The machine's own set-up of apt is not changed. Other suites get a list of sources, package
//! lists and a cache of their own, at the address of the mirror that the machine is set up with.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{command, output, quietly, say};
use crate::failure::{fail, Context, Result};
use crate::places;

/// Suites beside the machine's own.
pub(crate) struct Apt {
    folder: PathBuf,
}

/// The address of the machine's main archive, and whether it is trusted without a signature.
fn mirror() -> Result<(String, bool)> {
    let format = "$(REPO_URI) $(TRUSTED) $(SUITE) $(CODENAME)";
    let mut targets = command("apt-get")?;
    targets.args(["indextargets", "--format", format, "Created-By: Packages"]);
    let own = codename()?;
    for line in output(&mut targets)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() >= 2 && words[2..].contains(&own.as_str()) {
            return Ok((words[0].to_owned(), unsigned_sources(words[0])));
        }
    }
    fail(format!("apt knows no archive of this machine's suite, {own} (apt-get indextargets)"))
}

/// Whether the machine's sources take this archive without a signature. (`$(TRUSTED)` cannot
/// tell: it says yes of a signed archive as well.)
fn unsigned_sources(uri: &str) -> bool {
    let folder = Path::new("/etc/apt/sources.list.d");
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()));
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let bare = uri.trim_end_matches('/');
    texts.flat_map(|text| text.split("\n\n").map(str::to_lowercase).collect::<Vec<_>>()).any(
        |entry| {
            entry.contains(&bare.to_lowercase())
                && (entry.contains("trusted=yes") || entry.contains("trusted: yes"))
        },
    )
}

/// The machine's own suite.
pub(crate) fn codename() -> Result<String> {
    let path = Path::new("/etc/os-release");
    let text = fs::read_to_string(path).about(path)?;
    let named = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match named {
        Some(name) => Ok(name.trim_matches('"').to_owned()),
        None => fail("/etc/os-release names no VERSION_CODENAME: this is no Debian release"),
    }
}

impl Apt {
    /// Those of the suites that the mirror has, with their lists brought up to date.
    pub(crate) fn of(name: &str, suites: &[&str]) -> Result<Self> {
        let folder = places::cache("apt")?.join(name);
        for below in ["lists/partial", "cache/archives/partial"] {
            places::folder(&folder.join(below))?;
        }
        let apt = Self { folder };
        let (uri, unsigned) = mirror()?;
        let options = if unsigned { "[trusted=yes] " } else { "" };
        let mut lines = Vec::new();
        for suite in suites {
            let line = format!("deb {options}{uri} {suite} main\n");
            let list = apt.folder.join("sources.list");
            fs::write(&list, &line).about(&list)?;
            match quietly(apt.run("apt-get")?.arg("update").arg("-qq")) {
                Ok(()) => lines.push(line),
                Err(_) => say(format!("the machine's mirror has no suite {suite}")),
            }
        }
        if lines.is_empty() {
            return fail(format!("the machine's mirror has none of: {}", suites.join(" ")));
        }
        let list = apt.folder.join("sources.list");
        fs::write(&list, lines.concat()).about(&list)?;
        quietly(apt.run("apt-get")?.arg("update").arg("-qq"))?;
        Ok(apt)
    }

    /// A program of apt's that knows these suites alone.
    fn run(&self, program: &str) -> Result<Command> {
        let mut run = command(program)?;
        run.args(self.options());
        Ok(run)
    }

    fn options(&self) -> Vec<String> {
        let at = |below: &str| self.folder.join(below).display().to_string();
        let set = [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            "APT::Sandbox::User=".to_owned(),
            "APT::Get::List-Cleanup=false".to_owned(),
        ];
        set.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect()
    }

    /// The packages' names that begin so.
    pub(crate) fn names(&self, head: &str) -> Result<Vec<String>> {
        let said = output(self.run("apt-cache")?.arg("pkgnames").arg(head))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// The versions of a package, the newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let said = output(self.run("apt-cache")?.arg("madison").arg(package))?;
        let column = |line: &str| line.split('|').nth(1).map(|v| v.trim().to_owned());
        Ok(said.lines().filter_map(column).collect())
    }

    /// Fetches a package and unpacks it into a folder, installing nothing.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result {
        let fetched = places::empty_folder(&self.folder.join("fetched"))?;
        let mut fetch = self.run("apt-get")?;
        quietly(fetch.args(["download", "-qq", package]).current_dir(&fetched))?;
        places::folder(into)?;
        for file in fs::read_dir(&fetched).about(&fetched)? {
            quietly(command("dpkg")?.arg("-x").arg(file?.path()).arg(into))?;
        }
        places::empty_folder(&fetched)?;
        Ok(())
    }

    /// Installs packages on the machine, from its own suites and these.
    pub(crate) fn install(&self, suite: &str, packages: &[&str]) -> Result {
        let mut install = as_root("apt-get")?;
        install.args(self.options()).args(INSTALL).args(["-t", suite]).args(packages);
        quietly(&mut install)
    }
}

/// How packages are installed: nothing else comes along, and nothing goes.
const INSTALL: [&str; 5] = ["install", "-y", "-qq", "--no-install-recommends", "--no-remove"];

/// Installs packages from the machine's own sources.
pub(crate) fn install(packages: &[&str]) -> Result {
    quietly(as_root("apt-get")?.args(["update", "-qq"]))?;
    quietly(as_root("apt-get")?.args(INSTALL).args(packages))
}

/// A program run by root, through sudo if need be.
fn as_root(program: &str) -> Result<Command> {
    let root = output(command("id")?.arg("-u"))?.trim() == "0";
    let mut run = if root {
        command(program)?
    } else if places::program("sudo").is_some() {
        let mut sudo = command("sudo")?;
        sudo.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", program]);
        sudo
    } else {
        return fail("packages can be installed by root alone, and there is no sudo");
    };
    if env::var_os("DEBIAN_FRONTEND").is_none() {
        run.env("DEBIAN_FRONTEND", "noninteractive");
    }
    Ok(run)
}
