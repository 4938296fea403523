//! A knowledge graph as the MCP memory server writes it, one JSON object a line, and the merge of two that grew from one.
//! Pure: no host, no clock. Unknown fields and their values are kept.

use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// A graph. Entities have unique names; both lists keep the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Things, by name.
    pub entities: Vec<Entity>,
    /// How things are joined, as a set.
    pub relations: Vec<Relation>,
}

/// A thing that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Its unique name.
    pub name: String,
    /// What is known about it, as a set.
    pub observations: Vec<String>,
    /// Its other fields, `entityType` among them.
    pub fields: Map<String, Value>,
}

/// That one thing is joined to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relation {
    /// The name of the first.
    pub from: String,
    /// The name of the second.
    pub to: String,
    /// How.
    pub kind: String,
}

/// A graph with what could not be read of its text.
#[derive(Debug, Default)]
pub struct Parsed {
    /// What was read.
    pub graph: Graph,
    /// How many lines made no sense: a server killed while it wrote leaves half a line.
    pub malformed: usize,
}

impl Graph {
    /// Reads JSON lines, or one object with `entities` and `relations`, the form of seeds.
    pub fn parse(text: &str) -> Parsed {
        let mut parsed = Parsed::default();
        if let Ok(Value::Object(seed)) = serde_json::from_str::<Value>(text)
            && (seed.contains_key("entities") || seed.contains_key("relations"))
        {
            for (list, kind) in [("entities", "entity"), ("relations", "relation")] {
                for item in seed.get(list).and_then(Value::as_array).into_iter().flatten() {
                    parsed.take(item.clone(), Some(kind));
                }
            }
        } else {
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                match serde_json::from_str(line) {
                    Ok(value) => parsed.take(value, None),
                    Err(_) => parsed.malformed += 1,
                }
            }
        }
        parsed.graph.unite();
        parsed
    }

    /// The JSON lines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for entity in &self.entities {
            let mut object = Map::new();
            object.insert("type".into(), "entity".into());
            object.insert("name".into(), entity.name.clone().into());
            object.extend(entity.fields.clone());
            object.insert("observations".into(), entity.observations.clone().into());
            text.push_str(&Value::Object(object).to_string());
            text.push('\n');
        }
        for Relation { from, to, kind } in &self.relations {
            let line = serde_json::json!({"type": "relation", "from": from, "to": to, "relationType": kind});
            text.push_str(&line.to_string());
            text.push('\n');
        }
        text
    }

    /// Makes names, observations and relations unique; entities of one name become one.
    fn unite(&mut self) {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut united: Vec<Entity> = Vec::new();
        for entity in self.entities.drain(..) {
            match places.get(&entity.name) {
                Some(place) => united[*place].observations.extend(entity.observations),
                None => {
                    places.insert(entity.name.clone(), united.len());
                    united.push(entity);
                }
            }
        }
        for entity in &mut united {
            let mut seen = HashSet::new();
            entity.observations.retain(|observation| seen.insert(observation.clone()));
        }
        self.entities = united;
        let mut seen = HashSet::new();
        self.relations.retain(|relation| seen.insert(relation.clone()));
    }

    fn by_name(&self) -> HashMap<&str, &Entity> {
        self.entities.iter().map(|entity| (entity.name.as_str(), entity)).collect()
    }
}

impl Parsed {
    fn take(&mut self, value: Value, kind: Option<&str>) {
        let taken = match value {
            Value::Object(mut object) => {
                let kind = kind.map(str::to_owned).or_else(|| string(object.get("type")));
                object.remove("type");
                match kind.as_deref() {
                    Some("entity") => self.take_entity(object),
                    Some("relation") => self.take_relation(&object),
                    _ => None,
                }
            }
            _ => None,
        };
        self.malformed += usize::from(taken.is_none());
    }

    fn take_entity(&mut self, mut fields: Map<String, Value>) -> Option<()> {
        let name = string(fields.remove("name").as_ref())?;
        let observations = match fields.remove("observations") {
            Some(Value::Array(items)) => items.iter().filter_map(|item| string(Some(item))).collect(),
            _ => Vec::new(),
        };
        self.graph.entities.push(Entity { name, observations, fields });
        Some(())
    }

    fn take_relation(&mut self, fields: &Map<String, Value>) -> Option<()> {
        let [from, to, kind] = ["from", "to", "relationType"].map(|name| string(fields.get(name)));
        self.graph.relations.push(Relation { from: from?, to: to?, kind: kind? });
        Some(())
    }
}

fn string(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

/// Joins `ours` and `theirs`, which both grew from `base`. What either added stays; what either deleted goes, unless the
/// other has changed it since: knowledge is lost only where nobody wanted it any more.
pub fn merge(base: &Graph, ours: &Graph, theirs: &Graph) -> Graph {
    let (before, mine, other) = (base.by_name(), ours.by_name(), theirs.by_name());
    let mut names: Vec<&str> = theirs.entities.iter().map(|entity| entity.name.as_str()).collect();
    names.extend(
        ours.entities.iter().map(|entity| entity.name.as_str()).filter(|name| !other.contains_key(name)),
    );
    let mut entities = Vec::new();
    for name in names {
        let base = before.get(name).copied();
        match (mine.get(name), other.get(name)) {
            (Some(ours), Some(theirs)) => entities.push(merge_entity(base, ours, theirs)),
            (Some(only), None) | (None, Some(only)) if base != Some(*only) => entities.push((*only).clone()),
            _ => {}
        }
    }
    let (before, mine, other): (HashSet<_>, HashSet<_>, HashSet<_>) =
        (base.relations.iter().collect(), ours.relations.iter().collect(), theirs.relations.iter().collect());
    let added = ours.relations.iter().filter(|relation| !other.contains(relation));
    let relations = theirs
        .relations
        .iter()
        .chain(added)
        .filter(|relation| {
            !before.contains(relation) || (mine.contains(relation) && other.contains(relation))
        })
        .cloned()
        .collect();
    Graph { entities, relations }
}

fn merge_entity(base: Option<&Entity>, ours: &Entity, theirs: &Entity) -> Entity {
    let before: HashSet<&String> = base.into_iter().flat_map(|base| &base.observations).collect();
    let mine: HashSet<&String> = ours.observations.iter().collect();
    let other: HashSet<&String> = theirs.observations.iter().collect();
    let observations = theirs
        .observations
        .iter()
        .chain(ours.observations.iter().filter(|observation| !other.contains(observation)))
        .filter(|observation| {
            !before.contains(observation) || (mine.contains(observation) && other.contains(observation))
        })
        .cloned()
        .collect();
    // A field that we changed is ours; every other is theirs.
    let mut fields = theirs.fields.clone();
    for (name, value) in &ours.fields {
        if base.is_none_or(|base| base.fields.get(name) != Some(value)) {
            fields.insert(name.clone(), value.clone());
        }
    }
    Entity { name: theirs.name.clone(), observations, fields }
}
