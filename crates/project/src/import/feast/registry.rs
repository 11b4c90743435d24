//! Feast's registry file: a serialised `feast.core.Registry`. Field numbers are those of `feast/protos/feast/core/*.proto`.
//!
//! Read is what an import needs; the rest is passed over. The bytes are believed nothing: fields are counted, sources in sources are not
//! followed deeper than Feast nests them, and code (user defined functions are pickles) is never looked into.

use gristmill_kernel::limits::IMPORT_FIELDS_MAX;
use gristmill_kernel::protobuf::{Field, Fields, Result};
use std::cell::Cell;

/// Feast nests a batch source in a stream source, and nothing below it.
const SOURCE_DEPTH_MAX: usize = 2;

/// What a registry holds, of all its projects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    /// Names of projects.
    pub projects: Vec<String>,
    /// Entities.
    pub entities: Vec<Entity>,
    /// Feature views, those over streams too.
    pub views: Vec<View>,
    /// Feature services.
    pub services: Vec<Service>,
    /// On demand feature views.
    pub on_demand: Vec<Named>,
    /// Label views.
    pub labels: Vec<Named>,
    /// Saved datasets, validation references and permissions, by the words for them.
    pub others: Vec<(&'static str, Named)>,
}

/// A thing of a project that is only named.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
}

/// An entity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entity {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// The column that holds its key.
    pub join_key: String,
}

/// A feature view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// Names of entities.
    pub entities: Vec<String>,
    /// The columns of their keys, where the registry says so.
    pub keys: Vec<String>,
    /// Its features, in order.
    pub features: Vec<Feature>,
    /// How old a row may be, in microseconds; 0 is any age.
    pub ttl: i64,
    /// Where its history is.
    pub batch: Option<DataSource>,
    /// What new rows come from.
    pub stream: Option<DataSource>,
    /// Whether it is served online.
    pub online: bool,
    /// Whether it was switched off.
    pub disabled: bool,
    /// Whether user code or another engine's query makes its features.
    pub transformed: bool,
    /// Whether it reads other views.
    pub reads_views: bool,
    /// Windowed aggregates, of a view over a stream.
    pub aggregations: Vec<Aggregation>,
}

/// A feature.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The number of its type.
    pub kind: u64,
}

/// A windowed aggregate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Aggregation {
    /// The column.
    pub column: String,
    /// `sum`, `count`, ...
    pub function: String,
    /// The window in microseconds; 0 is none.
    pub window: i64,
    /// By how much it moves.
    pub slide: i64,
    /// The feature's name, where it has one of its own.
    pub name: String,
}

/// A feature service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// The views it reads.
    pub views: Vec<String>,
}

/// Kinds of sources.
pub mod kind {
    /// Files.
    pub const FILE: u64 = 1;
    /// A topic of Kafka.
    pub const KAFKA: u64 = 3;
    /// A stream of Kinesis.
    pub const KINESIS: u64 = 4;
    /// What callers push.
    pub const PUSH: u64 = 9;
}

/// A source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataSource {
    /// Its name.
    pub name: String,
    /// One of [`kind`], or another.
    pub kind: u64,
    /// Column of the source -> name in the views.
    pub mapping: Vec<(String, String)>,
    /// The event time, as views name it.
    pub time: String,
    /// When a row was made; empty if it does not say.
    pub created: String,
    /// Where files are; the table or topic of others.
    pub place: String,
    /// Whether its files are a Delta table.
    pub delta: bool,
}

/// Reads a registry. `Err` says what is wrong with the bytes.
pub fn read(bytes: &[u8]) -> Result<Registry> {
    let reader = Reader(Cell::new(IMPORT_FIELDS_MAX));
    let mut registry = Registry::default();
    reader.each(bytes, |number, field| {
        match number {
            1 => registry.entities.push(reader.entity(spec(field)?)?),
            6 => registry.views.push(reader.view(spec(field)?)?),
            7 => registry.services.push(reader.service(spec(field)?)?),
            8 => registry.on_demand.push(reader.named(spec(field)?, 2)?),
            11 => registry.others.push(("saved dataset", reader.named(spec(field)?, 2)?)),
            13 => registry.others.push(("validation reference", reader.named(bytes_of(field)?, 3)?)),
            14 => registry.views.push(reader.stream_view(spec(field)?)?),
            16 => registry.others.push(("permission", reader.named(spec(field)?, 2)?)),
            17 => registry.projects.push(reader.named(spec(field)?, 0)?.name),
            19 => registry.labels.push(reader.named(spec(field)?, 2)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(registry)
}

/// How many fields may still be read.
struct Reader(Cell<usize>);

impl Reader {
    fn each<'a>(&self, bytes: &'a [u8], mut take: impl FnMut(u64, Field<'a>) -> Result<()>) -> Result<()> {
        for field in Fields::of(bytes) {
            let (number, field) = field?;
            let left = self.0.get().checked_sub(1).ok_or_else(|| format!("it has more than {IMPORT_FIELDS_MAX} fields"))?;
            self.0.set(left);
            take(number, field)?;
        }
        Ok(())
    }

    /// `name = 1`, and the project in the field of that number; 0 is none.
    fn named(&self, bytes: &[u8], project: u64) -> Result<Named> {
        let mut named = Named::default();
        self.each(bytes, |number, field| {
            if number == 1 {
                named.name = text(field)?;
            } else if number == project {
                named.project = text(field)?;
            }
            Ok(())
        })?;
        Ok(named)
    }

    fn entity(&self, bytes: &[u8]) -> Result<Entity> {
        let mut entity = Entity::default();
        self.each(bytes, |number, field| {
            match number {
                1 => entity.name = text(field)?,
                4 => entity.join_key = text(field)?,
                9 => entity.project = text(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(entity)
    }

    fn view(&self, bytes: &[u8]) -> Result<View> {
        let mut view = View::default();
        self.each(bytes, |number, field| {
            match number {
                1 => view.name = text(field)?,
                2 => view.project = text(field)?,
                3 => view.entities.push(text(field)?),
                4 => view.features.push(self.feature(bytes_of(field)?)?),
                6 => view.ttl = self.duration(bytes_of(field)?)?,
                7 => view.batch = Some(self.source(bytes_of(field)?, 0)?),
                8 => view.online = truth(field)?,
                9 => view.stream = Some(self.source(bytes_of(field)?, 0)?),
                12 => view.keys.push(self.feature(bytes_of(field)?)?.name),
                14 => view.reads_views = true,
                15 => view.transformed = true,
                20 => view.disabled = truth(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(view)
    }

    fn stream_view(&self, bytes: &[u8]) -> Result<View> {
        let mut view = View::default();
        self.each(bytes, |number, field| {
            match number {
                1 => view.name = text(field)?,
                2 => view.project = text(field)?,
                3 => view.entities.push(text(field)?),
                4 => view.features.push(self.feature(bytes_of(field)?)?),
                5 => view.keys.push(self.feature(bytes_of(field)?)?.name),
                9 => view.ttl = self.duration(bytes_of(field)?)?,
                10 => view.batch = Some(self.source(bytes_of(field)?, 0)?),
                11 => view.stream = Some(self.source(bytes_of(field)?, 0)?),
                12 => view.online = truth(field)?,
                13 | 17 => view.transformed = true,
                15 => view.aggregations.push(self.aggregation(bytes_of(field)?)?),
                23 => view.disabled = truth(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(view)
    }

    fn service(&self, bytes: &[u8]) -> Result<Service> {
        let mut service = Service::default();
        self.each(bytes, |number, field| {
            match number {
                1 => service.name = text(field)?,
                2 => service.project = text(field)?,
                // A projection names its view first.
                3 => service.views.push(self.named(bytes_of(field)?, 0)?.name),
                _ => {}
            }
            Ok(())
        })?;
        Ok(service)
    }

    fn feature(&self, bytes: &[u8]) -> Result<Feature> {
        let mut feature = Feature::default();
        self.each(bytes, |number, field| {
            match (number, field) {
                (1, field) => feature.name = text(field)?,
                (2, Field::Varint(kind)) => feature.kind = kind,
                _ => {}
            }
            Ok(())
        })?;
        Ok(feature)
    }

    fn aggregation(&self, bytes: &[u8]) -> Result<Aggregation> {
        let mut aggregation = Aggregation::default();
        self.each(bytes, |number, field| {
            match number {
                1 => aggregation.column = text(field)?,
                2 => aggregation.function = text(field)?,
                3 => aggregation.window = self.duration(bytes_of(field)?)?,
                4 => aggregation.slide = self.duration(bytes_of(field)?)?,
                5 => aggregation.name = text(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(aggregation)
    }

    fn source(&self, bytes: &[u8], depth: usize) -> Result<DataSource> {
        if depth >= SOURCE_DEPTH_MAX {
            return Err("its sources are nested too deeply".into());
        }
        let mut source = DataSource::default();
        self.each(bytes, |number, field| {
            match (number, field) {
                (1, Field::Varint(kind)) => source.kind = kind,
                (2, field) => source.mapping.push(self.pair(bytes_of(field)?)?),
                (3, field) => source.time = text(field)?,
                (5, field) => source.created = text(field)?,
                (11, field) => self.each(bytes_of(field)?, |number, field| {
                    match number {
                        1 => source.delta = self.is_delta(bytes_of(field)?)?,
                        2 => source.place = text(field)?,
                        _ => {}
                    }
                    Ok(())
                })?,
                // Kafka's topic; the stream of Kinesis.
                (13 | 14, field) => self.each(bytes_of(field)?, |number, field| {
                    if number == 2 {
                        source.place = text(field)?;
                    }
                    Ok(())
                })?,
                // The tables of warehouses.
                (12 | 15 | 19 | 27 | 30 | 35, field) => self.each(bytes_of(field)?, |number, field| {
                    if number == 1 {
                        source.place = text(field)?;
                    }
                    Ok(())
                })?,
                (20, field) => source.name = text(field)?,
                // What a stream stands on is also the view's own batch source; here only that it nests no deeper matters.
                (26, field) => drop(self.source(bytes_of(field)?, depth + 1)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(source)
    }

    /// `oneof format { ParquetFormat = 1; DeltaFormat = 2 }`.
    fn is_delta(&self, bytes: &[u8]) -> Result<bool> {
        let mut delta = false;
        self.each(bytes, |number, _| {
            delta |= number == 2;
            Ok(())
        })?;
        Ok(delta)
    }

    fn pair(&self, bytes: &[u8]) -> Result<(String, String)> {
        let mut pair = (String::new(), String::new());
        self.each(bytes, |number, field| {
            match number {
                1 => pair.0 = text(field)?,
                2 => pair.1 = text(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(pair)
    }

    /// Microseconds. Feast's durations come from Python, which has no finer ones.
    fn duration(&self, bytes: &[u8]) -> Result<i64> {
        let (mut seconds, mut nanos) = (0_i64, 0_i64);
        self.each(bytes, |number, field| {
            match (number, field) {
                (1, Field::Varint(value)) => seconds = value.cast_signed(),
                (2, Field::Varint(value)) => nanos = value.cast_signed(),
                _ => {}
            }
            Ok(())
        })?;
        seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1_000)).ok_or_else(|| "a duration is too long".into())
    }
}

/// Most things are `{ spec = 1; meta = 2 }`.
fn spec(field: Field<'_>) -> Result<&[u8]> {
    for inner in Fields::of(bytes_of(field)?) {
        if let (1, field) = inner? {
            return bytes_of(field);
        }
    }
    Ok(&[])
}

fn bytes_of(field: Field<'_>) -> Result<&[u8]> {
    match field {
        Field::Bytes(bytes) => Ok(bytes),
        _ => Err("a number stands where a message should".into()),
    }
}

fn text(field: Field<'_>) -> Result<String> {
    std::str::from_utf8(bytes_of(field)?).map(str::to_owned).map_err(|_| "a name is not UTF-8".into())
}

fn truth(field: Field<'_>) -> Result<bool> {
    match field {
        Field::Varint(value) => Ok(value != 0),
        _ => Err("something stands where true or false should".into()),
    }
}
