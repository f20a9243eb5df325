//! A Postgres database as source and target.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::table::{Kind, TABLES, Table, Value};
use super::{AT_ONCE, Chunk, Part, gone};
use crate::store::StoreError;
use crate::store::postgres::{Address, connect_for_copy, told};

/// Sends everything, as of one moment.
pub(super) async fn read(address: &Address, out: mpsc::Sender<Part>) -> Result<(), StoreError> {
    let mut db = connect_for_copy(address).await?;
    let moment = db
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(told)?;
    for table in TABLES {
        read_table(&moment, table, &out).await?;
    }
    out.send(Part::End).await.map_err(|_| gone())
}

async fn read_table(db: &Transaction<'_>, table: &'static Table, out: &mpsc::Sender<Part>) -> Result<(), StoreError> {
    let none: [&(dyn ToSql + Sync); 0] = [];
    let mut found = pin!(db.query_raw(&table.select("\"C\""), none).await.map_err(told)?);
    let mut rows = Vec::new();
    while let Some(row) = found.try_next().await.map_err(told)? {
        let values = table.columns.iter().enumerate().map(|(place, (_, kind))| {
            Ok(match kind {
                Kind::Int => row.try_get::<_, Option<i64>>(place)?.map(Value::Int),
                Kind::Small => row.try_get::<_, Option<i16>>(place)?.map(|number| Value::Int(number.into())),
                Kind::Integer => row.try_get::<_, Option<i32>>(place)?.map(|number| Value::Int(number.into())),
                Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(place)?.map(Value::Bytes),
                Kind::Text => row.try_get::<_, Option<String>>(place)?.map(Value::Text),
            }
            .unwrap_or(Value::Null))
        });
        rows.push(values.collect::<Result<Vec<_>, _>>().map_err(told)?);
        if rows.len() == AT_ONCE {
            let rows = std::mem::take(&mut rows);
            out.send(Part::Rows(Chunk { table, rows })).await.map_err(|_| gone())?;
        }
    }
    if rows.is_empty() { Ok(()) } else { out.send(Part::Rows(Chunk { table, rows })).await.map_err(|_| gone()) }
}

/// Writes what comes into the empty tables; without the end of it they stay empty.
pub(super) async fn write(address: &Address, mut rows: mpsc::Receiver<Part>) -> Result<(), StoreError> {
    let mut db: Client = connect_for_copy(address).await?;
    let transaction = db.transaction().await.map_err(told)?;
    // brokers that append meanwhile wait, and whoever copies at the same time
    transaction.batch_execute("SELECT FROM log_head WHERE id = 1 FOR UPDATE").await.map_err(told)?;
    for table in TABLES {
        let sql = format!("SELECT FROM {} LIMIT 1", table.name);
        if transaction.query_opt(&sql, &[]).await.map_err(told)?.is_some() {
            return Err(StoreError::Unavailable(format!(
                "the target is not empty: `{}` has rows; name a database that no broker has used",
                table.name
            )));
        }
    }
    loop {
        match rows.recv().await {
            Some(Part::Rows(chunk)) => write_rows(&transaction, &chunk).await?,
            Some(Part::End) => break,
            None => return Err(gone()),
        }
    }
    for table in TABLES.iter().filter(|table| table.is_numbered) {
        let name = table.name;
        let sql =
            format!("SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name} HAVING count(*) > 0");
        transaction.batch_execute(&sql).await.map_err(told)?;
    }
    let head = "UPDATE log_head SET size = newest.idx + 1, time = newest.time
        FROM (SELECT idx, time FROM leaf ORDER BY idx DESC LIMIT 1) AS newest WHERE id = 1";
    transaction.batch_execute(head).await.map_err(told)?;
    transaction.commit().await.map_err(told)
}

async fn write_rows(db: &Transaction<'_>, Chunk { table, rows }: &Chunk) -> Result<(), StoreError> {
    let types: Vec<_> = table
        .columns
        .iter()
        .map(|(_, kind)| match kind {
            Kind::Int => Type::INT8,
            Kind::Small => Type::INT2,
            Kind::Integer => Type::INT4,
            Kind::Bytes => Type::BYTEA,
            Kind::Text => Type::TEXT,
        })
        .collect();
    let sql = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, table.names());
    let mut writer = pin!(BinaryCopyInWriter::new(db.copy_in(&sql).await.map_err(told)?, &types));
    for row in rows {
        let values: Vec<Box<dyn ToSql + Sync + Send>> = row
            .iter()
            .zip(table.columns)
            .map(|(value, (name, kind))| typed(value, *kind).ok_or_else(|| unfit(table, name)))
            .collect::<Result<_, _>>()?;
        writer.as_mut().write_raw(values.iter().map(|value| &**value as &(dyn ToSql + Sync))).await.map_err(told)?;
    }
    writer.finish().await.map_err(told)?;
    Ok(())
}

fn typed(value: &Value, kind: Kind) -> Option<Box<dyn ToSql + Sync + Send>> {
    Some(match (value, kind) {
        (Value::Null, Kind::Int) => Box::new(None::<i64>),
        (Value::Null, Kind::Small) => Box::new(None::<i16>),
        (Value::Null, Kind::Integer) => Box::new(None::<i32>),
        (Value::Null, Kind::Bytes) => Box::new(None::<Vec<u8>>),
        (Value::Null, Kind::Text) => Box::new(None::<String>),
        (Value::Int(number), Kind::Int) => Box::new(*number),
        (Value::Int(number), Kind::Small) => Box::new(i16::try_from(*number).ok()?),
        (Value::Int(number), Kind::Integer) => Box::new(i32::try_from(*number).ok()?),
        (Value::Bytes(bytes), Kind::Bytes) => Box::new(bytes.clone()),
        (Value::Text(text), Kind::Text) => Box::new(text.clone()),
        _ => return None,
    })
}

fn unfit(table: &Table, column: &str) -> StoreError {
    StoreError::Damaged(format!("`{column}` of {} has another type", table.name))
}
