// SPDX-License-Identifier: MIT

//! Finding pools beside a module that is played.

use rwsnap_core::control::rows::{KIND_PRODUCTION, KIND_SNAPSHOT};
use rwsnap_core::control::{Name, Verb};

use super::*;
use crate::cli::connect::command;
use crate::cli::io::Bytes;
use crate::store::module::fake::{name, Fake, Pool};
use crate::store::prepare;

fn module(fake: &Fake) -> Module {
    Module::Open(Box::new(fake.clone()))
}

/// A served pool.
fn served_as(name: &str, uuid: &str) -> Found {
    let by = Driver::Server(PathBuf::from(format!("/run/{uuid}.sock")));
    Found { uuid: uuid.to_owned(), name: name.to_owned(), by }
}

/// A save volume in a folder.
fn save(folder: &Path) -> (PathBuf, [u8; 16]) {
    let (save, production) = (folder.join("save.img"), folder.join("prod.img"));
    fs::File::create(&production).unwrap().set_len(1 << 20).unwrap();
    let made = prepare::create(
        &prepare::Wanted {
            save: save.clone(),
            size: Some(16 << 20),
            chunk: 4096,
            copy_span: None,
            when_full: None,
            grow_limit: None,
            name: "mine".to_owned(),
            force: false,
            productions: vec![prepare::Production { name: "prod".to_owned(), path: production }],
        },
        &mut |_, _| {},
    );
    let uuid = made.unwrap().uuid;
    (save, uuid)
}

#[test]
fn the_only_pool_is_found_whoever_drives_it() {
    let attached = || Found::attached(&Pool::new("tank", 1).row);
    assert!(choose(vec![attached()], None).unwrap().is_attached());
    assert!(!choose(vec![served_as("db", "u")], None).unwrap().is_attached());
    let said = choose(vec![attached(), served_as("db", "u")], None).err().unwrap().message;
    assert!(said.starts_with("2 pools are being served or attached; say which one"), "{said}");
    assert!(said.contains("tank  (attached)") && said.contains("u  db"), "{said}");
    let said = choose(Vec::new(), None).err().unwrap().message;
    assert!(said.starts_with("no pool is being served or attached"), "{said}");
}

#[test]
fn a_pool_is_found_by_name_and_uuid_beside_others() {
    let all = || vec![Found::attached(&Pool::new("tank", 1).row), served_as("db", "u")];
    for wanted in ["tank", "01010101-0101-0101-0101-010101010101"] {
        assert!(choose(all(), Some(wanted)).unwrap().is_attached(), "{wanted}");
    }
    assert!(!choose(all(), Some("db")).unwrap().is_attached());
    let said = choose(all(), Some("x")).err().unwrap().message;
    assert!(said.contains("no pool `x`") && said.contains("tank  (attached)"), "{said}");
    let mut twins = all();
    twins.push(served_as("tank", "v"));
    let said = choose(twins, Some("tank")).err().unwrap().message;
    assert!(said.starts_with("2 pools of the name `tank` are being served or attached"), "{said}");
}

#[test]
fn a_pool_is_found_by_its_save_volume_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let (save, uuid) = save(dir.path());
    let mut pool = Pool::new("mine", 7).with("prod", KIND_PRODUCTION);
    pool.row.uuid = uuid;
    let fake = Fake::of(&[Pool::new("tank", 1), pool]);
    let found = at_path(&save, module(&fake)).unwrap();
    assert!(found.is_attached() && found.is_driven() && !found.is_served());
    assert_eq!(found.place, Path::new("/dev/save7"));
    let said = require_not_attached(&save, "check", &mut module(&fake)).unwrap_err().message;
    assert!(said.contains("cannot check") && said.contains("attached by the kernel"), "{said}");
    assert!(said.ends_with("`rwsnap detach mine` ends that."), "{said}");
    // It is at rest for all who do not see the module's pools, and once it is detached.
    fake.0.borrow_mut().fails = Some(nix::errno::Errno::EPERM);
    assert!(!at_path(&save, module(&fake)).unwrap().is_driven());
    fake.0.borrow_mut().fails = None;
    fake.0.borrow_mut().pools.pop();
    assert!(!at_path(&save, module(&fake)).unwrap().is_driven());
    let said = connect_attached(save.to_str(), module(&fake)).err().unwrap().message;
    assert!(said.contains("is not attached") && said.contains("rwsnap attach /"), "{said}");
}

#[test]
fn detaching_names_who_is_in_the_way() {
    let mut pool = Pool::new("tank", 1).with("prod", KIND_PRODUCTION);
    pool.devices[0].open = 1.into();
    let fake = Fake::of(&[pool]);
    let detach = |pool| {
        let mut found = connect_attached(pool, module(&fake))?;
        found.call(&command(Verb::DetachPool, Name::default()), &[]).map(drop)
    };
    let said = detach(None).unwrap_err().message;
    assert_eq!(
        said,
        "cannot detach the pool: clients have `prod` open\nUnmount and disconnect them first."
    );
    fake.0.borrow_mut().pools[0].devices[0].open = 0.into();
    detach(Some("tank")).unwrap();
    let said = detach(None).unwrap_err().message;
    assert_eq!(said, "no pool is attached; `rwsnap attach SAVE` does that");
    let said = detach(Some("tank")).unwrap_err().message;
    assert!(said.contains("no pool `tank`"), "{said}");
    assert_eq!(fake.sent(), [Verb::DetachPool; 2]);
}

#[test]
fn bytes_are_read_and_written_by_block_devices() {
    let pool = Pool::new("tank", 1).with("prod", KIND_PRODUCTION).with("prod@a", KIND_SNAPSHOT);
    let mut found = connect_attached(None, module(&Fake::of(&[pool]))).unwrap();
    let mut why = |text| Bytes::new(&mut found, name(text)).err().unwrap().message;
    assert!(why("prod").ends_with("`prod` is the block device /dev/rwsnap0"));
    assert!(why("prod@a").ends_with("`rwsnap expose prod@a` makes a block device of it"));
    assert!(why("prod@b").contains("there is no `prod@b`"));
}
