"""The commands of docs/redis.md through redis-py's own API, in both versions of the protocol: redis_py.py PORT."""

import sys

import redis


def check(port, protocol):
    client = redis.Redis(port=port, protocol=protocol, decode_responses=True, client_name="check")
    assert client.ping()
    client.delete("text", "hash", "counter", "once", "p", "q", "m1", "m2")
    client.set("text", "1", ex=100)
    assert client.get("text") == "1" and 0 < client.ttl("text") <= 100
    assert client.getex("text", persist=True) == "1" and client.ttl("text") == -1
    assert client.append("text", "x") == 2 and client.strlen("text") == 2
    assert client.set("once", "1", nx=True) is True and client.set("once", "2", nx=True) is None
    assert client.incr("counter", 5) == 5
    assert client.mset({"m1": "x", "m2": "y"}) and client.mget("m1", "m2", "none") == ["x", "y", None]
    assert client.hset("hash", mapping={"a": 1, "b": 2}) == 2
    assert client.hincrby("hash", "a", 4) == 5
    assert client.hgetall("hash") == {"a": "5", "b": "2"}
    assert dict(client.hscan_iter("hash")) == {"a": "5", "b": "2"}
    assert client.type("hash") == "hash" and client.exists("text", "hash", "none") == 2
    assert client.expire("hash", 50) and client.persist("hash")
    assert client.execute_command("CLIENT GETNAME") == "check"
    assert isinstance(client.client_id(), int)
    assert client.info()["redis_mode"] == "standalone"
    assert client.config_get("save") == {"save": ""}

    pipeline = client.pipeline(transaction=False)
    pipeline.set("p", "1").incr("p").get("none")
    assert pipeline.execute() == [True, 2, None]
    transaction = client.pipeline()
    transaction.set("p", "1").incr("p")
    assert transaction.execute() == [True, 2]
    several = client.pipeline()
    several.set("p", "1").set("q", "1")
    refused(several.execute, "transaction")
    refused(lambda: client.get("hash"), "WRONGTYPE")

    for number in range(100):
        client.set(f"scanned-{number}", number)
    assert len(set(client.scan_iter("scanned-*", count=30))) == 100
    assert client.dbsize() >= 100
    assert client.delete(*(f"scanned-{number}" for number in range(100))) == 100


def refused(call, word):
    try:
        call()
    except redis.RedisError as error:
        assert word in str(error), error
    else:
        raise AssertionError(f"not refused: {word}")


for version in (2, 3):
    check(int(sys.argv[1]), version)
    print(f"protocol {version}: passed with redis-py {redis.__version__}")
