"""Checkpointers: LangGraph's savers for SQLite and Postgres, allowed to read back only the state's own types."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ..core import ConfigurationError, Home, HomeDamaged
from ..nodes.state import STATE_MODELS


@asynccontextmanager
async def open_saver(
    home: Home, database_url: str | None, extra: Iterable[type] = ()
) -> AsyncGenerator[BaseCheckpointSaver[Any]]:
    """Open the checkpointer of a home.

    Args:
        home: where SQLite's file lies.
        database_url: `postgresql://...` to use Postgres instead.
        extra: further types that a plug-in's state keys hold.

    Raises:
        HomeDamaged: the checkpoint file is no database.
        ConfigurationError: Postgres is asked for and its extra isn't installed.
    """
    serde = JsonPlusSerializer(allowed_msgpack_modules=[*STATE_MODELS, *extra])
    if database_url is None:
        import sqlite3

        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(str(home.checkpoints)) as saver:
            saver.serde = serde
            try:
                await saver.setup()
                await saver.conn.execute("PRAGMA synchronous=FULL")
                await saver.conn.execute("PRAGMA busy_timeout=30000")
            except sqlite3.DatabaseError as error:
                raise HomeDamaged(
                    f"The checkpoints in {home.checkpoints} can't be read: {error}. Restore that file from a backup; "
                    "what was promoted is safe in pawl.sqlite."
                ) from error
            yield saver
    else:
        try:
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
            from psycopg.rows import dict_row
            from psycopg_pool import AsyncConnectionPool
        except ImportError as error:
            raise ConfigurationError(
                "A postgresql:// URL needs the extra: pip install 'pawl-agents[postgres]'."
            ) from error
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            database_url, min_size=1, max_size=4, open=False, kwargs={"autocommit": True, "row_factory": dict_row}
        )
        async with pool:
            saver = AsyncPostgresSaver(pool, serde=serde)
            await saver.setup()
            yield saver
