//! What may not be written at all.

use crate::support::*;
use gristmill_kernel::error::Code;
use gristmill_kernel::port::Engine;
use gristmill_kernel::table::{Catalog, Relation};

#[tokio::test]
async fn only_one_plain_query_passes() {
    let bench = bench();
    let rows = batch(vec![("a", ints(&[Some(1)]))]);
    let catalog: Catalog = [("t".to_string(), Relation::Rows(vec![rows.clone()], rows.schema()))].into();
    for (sql, code) in [
        ("create table x (a int)", Code::SQL_NOT_ALLOWED),
        ("create external table x stored as csv location '/etc/passwd'", Code::SQL_SYNTAX),
        ("drop table t", Code::SQL_NOT_ALLOWED),
        ("insert into t values (1)", Code::SQL_NOT_ALLOWED),
        ("update t set a = 2", Code::SQL_NOT_ALLOWED),
        ("delete from t", Code::SQL_NOT_ALLOWED),
        ("copy t to '/tmp/x.csv'", Code::SQL_NOT_ALLOWED),
        ("set datafusion.execution.batch_size = 1", Code::SQL_NOT_ALLOWED),
        ("explain analyze select * from t", Code::SQL_NOT_ALLOWED),
        ("show tables", Code::SQL_NOT_ALLOWED),
        ("select 1; select 2", Code::SQL_NOT_ALLOWED),
        ("", Code::SQL_NOT_ALLOWED),
        ("with x as (delete from t returning *) select * from x", Code::SQL_NOT_ALLOWED),
        ("with recursive x as (select 1 as a union all select a + 1 from x) select * from x", Code::SQL_NOT_ALLOWED),
        ("select * into y from t", Code::SQL_NOT_ALLOWED),
        ("select * from t for update", Code::SQL_NOT_ALLOWED),
        ("select * from '/etc/passwd'", Code::SQL_NOT_ALLOWED),
        ("select * from read_csv('/etc/passwd')", Code::SQL_NOT_ALLOWED),
        ("select * from generate_series(1, 1000000000)", Code::SQL_NOT_ALLOWED),
        ("select * from information_schema.tables", Code::SQL_NOT_ALLOWED),
        ("select * from \"/etc/passwd\"", Code::UNKNOWN_TABLE),
        ("select * from \"file:///etc/passwd\"", Code::UNKNOWN_TABLE),
        ("select $1 from t", Code::SQL_NOT_ALLOWED),
        ("select @@version", Code::SQL_FAILED),
    ] {
        match query(&bench.engine, sql, &catalog).await {
            Ok(_) => panic!("{sql} passed"),
            Err(fault) => assert_eq!(fault.code, code, "{sql}: {fault}"),
        }
    }
    assert!(query(&bench.engine, "with x as (select a from t) select a from x union all select 2", &catalog).await.is_ok());
}

#[tokio::test]
async fn system_columns_are_hidden() {
    let bench = bench();
    bench
        .engine
        .write(write("t", vec![batch(vec![("a", ints(&[Some(1)]))])], gristmill_kernel::table::WriteMode::Append, at(1), &[]))
        .await
        .unwrap();
    let catalog: Catalog = [("t".to_string(), Relation::Stored { table: table("t"), version: None, time: None })].into();
    let fault = query(&bench.engine, "select _load from t", &catalog).await.unwrap_err();
    assert_eq!(fault.code, Code::UNKNOWN_COLUMN);
    assert_eq!(bench.engine.schema("select * from t", &catalog).await.unwrap().fields().len(), 1);
    assert!(bench.engine.query("select _load from t", &catalog, true).await.is_ok());
}

#[test]
fn analysis_names_tables_and_forgets_spelling() {
    let bench = bench();
    let analyse = |sql: &str| bench.engine.analyse(sql, "f.sql", 0).unwrap();
    let one = analyse("with x as (select * from Events) select A, as_of() from x join \"Odd\" o on true -- note\n where b = 'Text'");
    assert_eq!(one.tables, ["events", "Odd"]);
    assert!(one.uses_as_of);
    let two = analyse("WITH x AS (SELECT *   FROM events)\nSELECT a, AS_OF() FROM x JOIN \"Odd\" O ON TRUE /* other */ WHERE b = 'Text';");
    assert_eq!(one.normalised, two.normalised);
    assert_ne!(one.normalised, analyse("select 1").normalised);
    assert_ne!(analyse("select 'a'").normalised, analyse("select 'A'").normalised);
    assert_eq!(analyse("with events as (select * from events) select * from events").tables, ["events"]);
}
