// SPDX-License-Identifier: MIT

//! A module that is played, for tests: pools with volumes and block devices, without any data.

use std::cell::RefCell;
use std::rc::Rc;

use nix::errno::Errno;
use rwsnap_core::control::rows::KIND_SNAPSHOT;
use rwsnap_core::control::{
    Command, DeviceRow, EntityRow, Name, NameRow, PoolAtRow, PropertyRow, Refusal, Reply, Verb,
    MAGIC, VERSION,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{key, Exchanger, PATH_KEY};

/// Rows in a reply at most: a few, so that there is more than one reply to take.
const ROWS: usize = 2;

/// A name.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// A pool of the played module.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    pub(crate) row: PoolAtRow,
    pub(crate) rows: Vec<EntityRow>,
    pub(crate) devices: Vec<DeviceRow>,
    /// Where all productions are.
    pub(crate) path: String,
}

impl Pool {
    /// With this name, the UUID made of `number`, saved on the device 259:`number`.
    pub(crate) fn new(label: &str, number: u8) -> Self {
        let mut row = PoolAtRow { uuid: [number; 16], label: name(label), ..PoolAtRow::ZERO };
        row.device = [259.into(), u32::from(number).into()];
        let path = format!("/dev/save{number}");
        row.path.iter_mut().zip(path.bytes()).for_each(|(to, from)| *to = from);
        Self { row, ..Self::default() }
    }

    /// With a volume or snapshot; volumes have block devices.
    pub(crate) fn with(mut self, text: &str, kind: u32) -> Self {
        let row = EntityRow { name: name(text), kind: kind.into(), ..EntityRow::ZERO };
        self.rows.push(row);
        if kind != KIND_SNAPSHOT {
            self.add_device(name(text), kind);
        }
        self
    }

    fn add_device(&mut self, name: Name, kind: u32) -> DeviceRow {
        let number = u32::try_from(self.devices.len()).unwrap();
        let mut row = DeviceRow { name, kind: kind.into(), ..DeviceRow::ZERO };
        row.number = [254.into(), number.into()];
        row.read_only = u32::from(kind == KIND_SNAPSHOT).into();
        let node = format!("rwsnap{number}");
        row.device.iter_mut().zip(node.bytes()).for_each(|(to, from)| *to = from);
        self.devices.push(row);
        row
    }
}

/// What the module is, and what was said to it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) pools: Vec<Pool>,
    /// What it attaches when it is told to.
    pub(crate) next: Option<Pool>,
    /// Verbs that changed something, and what stood behind them.
    pub(crate) sent: Vec<(Verb, Vec<u8>)>,
    /// It fails with this.
    pub(crate) fails: Option<Errno>,
}

/// The module; what is cloned is the same one.
#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Rc<RefCell<State>>);

impl Fake {
    pub(crate) fn of(pools: &[Pool]) -> Self {
        let fake = Self::default();
        fake.0.borrow_mut().pools = pools.to_vec();
        fake
    }

    /// The verbs that changed something.
    pub(crate) fn sent(&self) -> Vec<Verb> {
        self.0.borrow().sent.iter().map(|(verb, _)| *verb).collect()
    }
}

impl Exchanger for Fake {
    fn exchange(&mut self, pool: Name, bytes: &[u8]) -> nix::Result<Vec<u8>> {
        let (head, behind) = Command::read_from_prefix(bytes).unwrap();
        self.0.borrow_mut().exchange(pool, &head, behind)
    }
}

impl State {
    fn exchange(&mut self, pool: Name, head: &Command, behind: &[u8]) -> nix::Result<Vec<u8>> {
        if let Some(errno) = self.fails {
            return Err(errno);
        }
        let verb = Verb::from_number(head.verb.get()).unwrap();
        if matches!(verb, Verb::AttachPool | Verb::DetachPool | Verb::Expose | Verb::Hide) {
            self.sent.push((verb, behind.to_vec()));
        }
        match verb {
            Verb::Pools => {
                return Ok(portion(&self.pools.iter().map(|p| p.row).collect::<Vec<_>>(), head));
            }
            Verb::AttachPool => {
                let pool = self.next.take().unwrap();
                self.pools.push(pool.clone());
                return Ok(portion(&[pool.row], head));
            }
            _ => {}
        }
        let is_it =
            |p: &Pool| pool == Name::default() || pool == p.row.label || pool == key(&p.row);
        let fits: Vec<usize> = (0..self.pools.len()).filter(|n| is_it(&self.pools[*n])).collect();
        let [at] = fits.as_slice() else {
            return Err(if fits.is_empty() { Errno::ENODEV } else { Errno::ENOTUNIQ });
        };
        if verb == Verb::DetachPool {
            let open = self.pools[*at].devices.iter().find(|row| row.open.get() != 0);
            return Ok(match open.map(|row| row.name) {
                Some(name) => refused(Refusal::OpenForWriting, &[name]),
                None => {
                    self.pools.remove(*at);
                    portion::<NameRow>(&[], head)
                }
            });
        }
        Ok(answer(&mut self.pools[*at], verb, head))
    }
}

/// What a pool answers.
fn answer(pool: &mut Pool, verb: Verb, head: &Command) -> Vec<u8> {
    let row = pool.rows.iter().find(|row| row.name == head.name).copied();
    match (verb, row) {
        (Verb::List, _) => portion(&pool.rows, head),
        (Verb::Devices, _) => portion(&pool.devices, head),
        (Verb::Info, Some(row)) => portion(&[row], head),
        (Verb::Properties, Some(_)) => {
            let mut row = PropertyRow { key: name(PATH_KEY), ..PropertyRow::ZERO };
            row.value.iter_mut().zip(pool.path.bytes()).for_each(|(to, from)| *to = from);
            portion(&[row], head)
        }
        (Verb::Expose, Some(row)) => {
            let device = pool.add_device(row.name, row.kind.get());
            portion(&[device], head)
        }
        (Verb::Hide, Some(row)) => {
            pool.devices.retain(|device| device.name != row.name);
            portion::<NameRow>(&[], head)
        }
        (_, None) => refused(Refusal::NotFound, &[]),
        (verb, _) => panic!("{verb:?} is not played"),
    }
}

/// The rows of a reply from where the command wants them on.
fn portion<T: IntoBytes + Immutable>(rows: &[T], head: &Command) -> Vec<u8> {
    let from = usize::try_from(head.value.get()).unwrap();
    let rest = rows.get(from..).unwrap_or_default();
    let count = rest.len().min(ROWS);
    let more = rest.len() > count;
    let next = if more { (from + count) as u64 } else { u64::MAX };
    [reply(Refusal::None, count, size_of::<T>(), next).as_bytes(), rest[..count].as_bytes()]
        .concat()
}

fn refused(why: Refusal, names: &[Name]) -> Vec<u8> {
    let rows: Vec<_> = names.iter().map(|name| NameRow { name: *name, ..NameRow::ZERO }).collect();
    let head = reply(why, rows.len(), size_of::<NameRow>(), u64::MAX);
    [head.as_bytes(), rows.as_bytes()].concat()
}

fn reply(why: Refusal, count: usize, row_bytes: usize, next: u64) -> Reply {
    Reply {
        magic: MAGIC.into(),
        version: VERSION.into(),
        refusal: (why as u16).into(),
        count: u32::try_from(count).unwrap().into(),
        row_bytes: u32::try_from(row_bytes).unwrap().into(),
        next: next.into(),
        value: 0.into(),
    }
}
