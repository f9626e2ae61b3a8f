// SPDX-License-Identifier: MIT

//! `rwsnap info`: all that is known of one volume or snapshot.

use rwsnap_core::control::{self, EntityRow, Name, PropertyRow};

use crate::store::identify::padded_text;

use super::args;
use super::connect::{command, Connection};
use super::error::{Failure, Outcome};
use super::output::{human, moment, print_json, print_pairs};
use super::ties;
use super::view::{self, Entity};
use super::Global;

/// Show all that is known of a volume or snapshot
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap info prod@monday --json")]
pub(super) struct Info {
    /// The volume or snapshot
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Full {
    #[serde(flatten)]
    entity: Entity,
    properties: serde_json::Map<String, serde_json::Value>,
}

impl Info {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let (row, rows, properties, devices) = global.with(|pool| {
            let row = entity(pool, self.name)?;
            let rows = pool.all::<EntityRow>(command(control::Verb::List, Name::default()))?;
            let properties =
                pool.all::<PropertyRow>(command(control::Verb::Properties, self.name))?;
            Ok((row, rows, properties, pool.devices()?))
        })?;
        let properties: Vec<(String, String)> =
            properties.iter().map(|p| (p.key.text().to_owned(), padded_text(&p.value))).collect();
        if self.json {
            let properties = properties.into_iter().map(|(k, v)| (k, v.into())).collect();
            let entity = Entity::new(&row, &rows).with_node(&devices);
            return print_json(&Full { entity, properties });
        }
        show(&row, &rows, &properties, view::node_of(self.name.text(), &devices))
    }
}

/// The row of a volume or snapshot.
pub(super) fn entity(pool: &mut Connection, name: Name) -> Outcome<EntityRow> {
    let mut asked = command(control::Verb::Info, name);
    asked.flags = control::FLAG_COUNT.into();
    let answer = pool.call(&asked, &[])?;
    let row = answer.rows::<EntityRow>().pop();
    row.ok_or_else(|| Failure::new(format!("nothing was told about `{}`", name.text())))
}

fn show(
    row: &EntityRow,
    rows: &[EntityRow],
    properties: &[(String, String)],
    node: Option<String>,
) -> Outcome {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let exact = |n: u64| format!("{} ({n} bytes)", human(n));
    let (opens, writers) = view::opens(row);
    let mut pairs = vec![
        ("name", row.name.text().to_owned()),
        ("type", view::kind(row).to_owned()),
        ("uuid", uuid::Uuid::from_bytes(row.uuid).to_string()),
        ("size", exact(row.size.get())),
        ("used", exact(row.used.get())),
        ("refer", exact(row.refer.get())),
        ("origin", dash(row.origin.text())),
        ("based on", dash(&ties::bases(row, rows).join(", "))),
        ("needed by", dash(&ties::needed_by(row, rows).join(", "))),
        ("created", moment(row.created_ns.get())),
        ("flags", dash(&view::flags(row).join(", "))),
        ("clients", format!("{opens}, {writers} of them writing")),
        ("served", format!("{} reads, {} writes", row.reads.get(), row.writes.get())),
    ];
    pairs.extend(node.map(|node| ("device", node)));
    for (key, value) in properties {
        pairs.push((key, dash(value)));
    }
    print_pairs(&pairs)
}
