"""redis-py against a Redis server: the commands that this project promises, through that client's own methods.

The same tests pass against a Redis of Debian. `REDIS_PORT` is the port; every test runs with RESP2 and with RESP3.
"""

import os
import time
import uuid

import pytest
import redis


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(request):
    port = int(os.environ["REDIS_PORT"])
    client = redis.Redis(port=port, protocol=request.param, decode_responses=True, client_name="tests", socket_timeout=30)
    yield client
    client.close()


@pytest.fixture
def key():
    return f"key-{uuid.uuid4().hex}"


def is_soon(left, seconds):
    return seconds - 3 <= left <= seconds + 1


def test_connection(client):
    assert client.ping()
    assert client.echo("hello") == "hello"
    assert client.client_getname() == "tests"
    assert client.client_setname("another")
    assert client.client_getname() == "another"
    assert client.client_id() > 0
    assert client.select(0)


def test_server(client):
    assert "redis_version" in client.info()
    assert client.dbsize() >= 0
    assert client.command_count() > 50
    assert "get" in client.command()
    assert client.config_get("maxmemory") is not None
    assert len(client.time()) == 2


def test_unknown_commands_are_errors(client):
    with pytest.raises(redis.ResponseError, match="unknown command 'NONSENSE'"):
        client.execute_command("NONSENSE", "a")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'get' command"):
        client.execute_command("GET")
    assert client.ping()


def test_strings(client, key):
    assert client.get(key) is None
    assert client.set(key, "value")
    assert client.get(key) == "value"
    assert client.strlen(key) == 5
    assert client.append(key, "+more") == 10
    assert client.getrange(key, 0, 4) == "value"
    assert client.getset(key, "new") == "value+more"
    assert client.type(key) == "string"
    assert client.getdel(key) == "new"
    assert client.get(key) is None
    assert client.strlen(key) == 0


def test_binary_keys_and_values():
    client = redis.Redis(port=int(os.environ["REDIS_PORT"]))
    key, value = b"\x00\xff" + uuid.uuid4().bytes, bytes(range(256)) * 40
    assert client.set(key, value)
    assert client.get(key) == value
    assert client.delete(key) == 1


def test_set_with_conditions(client, key):
    assert client.set(key, "x", xx=True) is None
    assert client.set(key, "1", nx=True)
    assert client.set(key, "2", nx=True) is None
    assert client.set(key, "3", xx=True)
    assert client.set(key, "4", get=True) == "3"
    assert client.setnx(key, "5") is False
    assert client.get(key) == "4"


def test_set_with_expiry(client, key):
    assert client.set(key, "v", ex=100) and is_soon(client.ttl(key), 100)
    assert client.set(key, "v", px=200_000) and is_soon(client.ttl(key), 200)
    now = int(time.time())
    assert client.set(key, "v", exat=now + 300) and is_soon(client.ttl(key), 300)
    assert client.set(key, "v", pxat=(now + 400) * 1000) and is_soon(client.ttl(key), 400)
    assert client.set(key, "w", keepttl=True) and is_soon(client.ttl(key), 400)
    assert client.set(key, "v") and client.ttl(key) == -1
    assert client.setex(key, 100, "v") and is_soon(client.ttl(key), 100)
    assert client.psetex(key, 200_000, "v") and is_soon(client.ttl(key), 200)


def test_getex(client, key):
    client.set(key, "v")
    assert client.getex(key, ex=100) == "v" and is_soon(client.ttl(key), 100)
    assert client.getex(key, px=200_000) == "v" and is_soon(client.ttl(key), 200)
    assert client.getex(key, persist=True) == "v" and client.ttl(key) == -1


def test_several_keys(client, key):
    names = [f"{key}-{index}" for index in range(50)]
    values = {name: f"value {name}" for name in names}
    assert client.mset(values)
    assert client.mget(names + [key]) == [values[name] for name in names] + [None]
    assert client.exists(*names, key) == 50
    assert client.touch(*names[:5]) == 5
    assert client.unlink(*names[:10]) == 10
    assert client.delete(*names, key) == 40
    assert client.exists(*names) == 0


def test_numbers(client, key):
    assert client.incr(key) == 1
    assert client.incrby(key, 41) == 42
    assert client.decr(key) == 41
    assert client.decrby(key, 50) == -9
    assert client.get(key) == "-9"
    assert client.incrbyfloat(key, 1.5) == -7.5
    client.set(key, "word")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr(key)
    client.set(key, 2**63 - 1)
    with pytest.raises(redis.ResponseError, match="overflow"):
        client.incr(key)


def test_expiry(client, key):
    assert client.ttl(key) == -2 and client.pttl(key) == -2 and client.expiretime(key) == -2
    assert not client.expire(key, 100)
    client.set(key, "v")
    assert client.ttl(key) == -1 and client.pttl(key) == -1 and client.expiretime(key) == -1
    assert client.expire(key, 100) and is_soon(client.ttl(key), 100)
    assert is_soon(client.pttl(key) / 1000, 100)
    assert client.pexpire(key, 200_000) and is_soon(client.ttl(key), 200)
    at = int(time.time()) + 300
    assert client.expireat(key, at) and client.expiretime(key) == at
    assert client.pexpireat(key, (at + 100) * 1000) and client.expiretime(key) == at + 100
    assert client.persist(key) and client.ttl(key) == -1
    assert not client.persist(key)
    assert client.expire(key, -1) and client.exists(key) == 0


def test_a_key_expires(client, key):
    client.set(key, "v", ex=1)
    end = time.monotonic() + 30
    while client.exists(key):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert client.get(key) is None


def test_hashes(client, key):
    assert client.hgetall(key) == {}
    assert client.hset(key, "a", "1") == 1
    assert client.hset(key, mapping={"a": "2", "b": "3", "c": "4"}) == 2
    assert client.hget(key, "a") == "2"
    assert client.hget(key, "z") is None
    assert client.hmget(key, "a", "z", "c") == ["2", None, "4"]
    assert client.hgetall(key) == {"a": "2", "b": "3", "c": "4"}
    assert client.hlen(key) == 3
    assert client.hexists(key, "a") and not client.hexists(key, "z")
    assert sorted(client.hkeys(key)) == ["a", "b", "c"]
    assert sorted(client.hvals(key)) == ["2", "3", "4"]
    assert client.hstrlen(key, "a") == 1
    assert client.hincrby(key, "a", 5) == 7
    assert client.hincrbyfloat(key, "a", 0.5) == 7.5
    assert client.hsetnx(key, "a", "no") in (0, False)
    assert client.hsetnx(key, "d", "yes") in (1, True)
    assert client.hdel(key, "a", "b", "z") == 2
    assert client.type(key) == "hash"
    assert client.hdel(key, "c", "d") == 2
    assert client.exists(key) == 0 and client.type(key) == "none"


def test_hashes_are_scanned(client, key):
    fields = {f"field-{index:04}": str(index) for index in range(700)}
    client.hset(key, mapping=fields)
    assert dict(client.hscan_iter(key, count=100)) == fields
    assert dict(client.hscan_iter(key, match="field-00?7")) == {f: v for f, v in fields.items() if f[6:8] == "00" and f[9] == "7"}
    assert client.delete(key) == 1


def test_types_are_not_mixed(client, key):
    client.hset(key, "f", "v")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get(key)
    assert client.set(key, "string")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.hget(key, "f")
    assert client.get(key) == "string"


def test_keys_are_scanned(client, key):
    names = {f"{key}-{index}" for index in range(300)}
    client.mset({name: "v" for name in names})
    assert set(client.scan_iter(match=f"{key}-*", count=50)) == names
    assert set(client.scan_iter(match=f"{key}-1?", count=50)) == {f"{key}-1{digit}" for digit in range(10)}
    assert client.delete(*names) == 300


def test_pipelines(client, key):
    pipeline = client.pipeline(transaction=False)
    for index in range(200):
        pipeline.set(f"{key}-{index}", index).incr(f"{key}-{index}")
    answers = pipeline.execute()
    assert answers == [answer for index in range(200) for answer in (True, index + 1)]


def test_transactions_of_one_key(client, key):
    pipeline = client.pipeline(transaction=True)
    pipeline.set(key, 5).incr(key).get(key).expire(key, 100)
    assert pipeline.execute() == [True, 6, "6", True]
    assert is_soon(client.ttl(key), 100)


def test_a_transaction_is_discarded(client, key):
    connection = client.client()
    assert connection.execute_command("MULTI") in (True, "OK")
    assert connection.execute_command("APPEND", key, "v") == "QUEUED"
    assert connection.execute_command("DISCARD") in (True, "OK")
    assert client.get(key) is None
