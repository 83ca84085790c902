"""A bill computed again from usage records and tariff, from docs/evidence.md section 6 (postpaid, one bill for the contract)."""
from evidence import Bad, decode, encode, entry_hash, sm3

KINDS = ("cpu", "memory", "disk_read", "disk_write", "disk_read_ops", "disk_write_ops", "net_rx", "net_tx", "storage", "gpu",
         "gpu_memory", "gpu_energy")
HOUR, GIB = 3_600_000_000_000, 1 << 30
# base unit, named unit, base units in one
UNITS = {"cpu": ("ns", "core-hour", HOUR), "gpu": ("device-ns", "GPU-hour", HOUR), "gpu_energy": ("millijoules", "kWh", 3_600_000_000),
         "disk_read_ops": ("operations", "million-operations", 10**6), "disk_write_ops": ("operations", "million-operations", 10**6)}
UNITS |= {kind: ("byte-seconds", "GiB-hour", 3600 * GIB) for kind in ("memory", "storage", "gpu_memory")}
UNITS |= {kind: ("bytes", "GiB", GIB) for kind in ("disk_read", "disk_write", "net_rx", "net_tx")}
FEN = 10**6


def resource(reading):
    code = reading["code"]
    name = KINDS[code] if code < 32 else "reserved_" + KINDS[code - 32]
    return name + (":" + reading["qualifier"] if "qualifier" in reading else "")


def half_even(value, by):
    whole, rest = divmod(value, by)
    return whole + (2 * rest > by or 2 * rest == by and whole % 2)


def line(price, tier, quantity):
    unit, per, units = UNITS[price["resource"].split(":")[0].removeprefix("reserved_")]
    if price["per"] != per:
        raise Bad("offer", f"{price['resource']} is priced per {price['per']}")
    unit_price = price["tiers"][tier]["price"]
    return {"resource": price["resource"], "unit": unit, "quantity": quantity, "tier": tier + 1, "unitPrice": unit_price, "per": per,
            "amount": half_even(quantity * unit_price, units * 100)}


def lines(price, quantity):
    tiers = price["tiers"]
    if price["scheme"] != "graduated":
        at = next(at for at, tier in enumerate(tiers) if "upTo" not in tier or quantity <= tier["upTo"])
        return [line(price, at, quantity)]
    found, below = [], 0
    for at, tier in enumerate(tiers):
        part = min(quantity, tier.get("upTo", quantity)) - below
        if part > 0 or at == 0:
            found.append(line(price, at, part))
        below = tier.get("upTo", quantity)
        if quantity <= below:
            break
    return found


def chain(records, deal_entry):
    """Section 6: the chain of records; each is (entry's octets, record)."""
    previous, end, totals = entry_hash(deal_entry[0]), deal_entry[1]["contractTime"], {}
    for at, (octets, record) in enumerate(records):
        if record["orderSeq"] != at or record["previous"] != previous:
            raise Bad("state", f"record {at} does not follow")
        if record["start"] < end or record["end"] < record["start"]:
            raise Bad("state", f"record {at} does not join in time")
        for reading in record["readings"]:
            name = resource(reading)
            if (reading["status"] == "missing") != ("delta" not in reading):
                raise Bad("amount", f"record {at}: {name} is missing or is not")
            if "total" in reading and reading["total"] != totals.get(name, 0) + reading.get("delta", 0):
                raise Bad("amount", f"record {at}: total of {name}")
            if name in totals and "total" not in reading:
                raise Bad("amount", f"record {at}: {name} lost its total")
            if "total" in reading:
                totals[name] = reading["total"]
        previous, end = entry_hash(octets), record["end"]
    return totals


def quality(records):
    """Step 8."""
    names, total, elapsed = [], {}, {}
    for _, record in records:
        for one in record.get("delivered", []):
            if "total" in one:
                total[one["code"]] = one["total"]
            if "delta" in one and record["reason"] not in ("gap", "powerLoss", "suspended"):
                elapsed[one["code"]] = elapsed.get(one["code"], 0) + record["elapsedNs"]
                names.append(one["code"])
    return [{"code": code, "ns": total[code], "elapsedNs": elapsed[code]} for code in sorted(set(names))]


def bill(contract_no, pool, buyer, deal, offer_tbs, records, last_name, ceiling):
    """DER of the `Bill` that follows; `deal` is (entry's octets, Deal), records (entry's octets, UsageRecord)."""
    offer = decode("Offer", offer_tbs)
    totals = chain(records, deal)
    tariff = offer["tariff"]
    found = [one for price in tariff["prices"] if price["resource"] in totals for one in lines(price, totals[price["resource"]])]
    amount = sum(one["amount"] for one in found)
    whole = amount - amount % FEN
    total = min(whole, ceiling - ceiling % FEN)
    gaps = [{"orderSeq": record["orderSeq"], "start": record["start"], "end": record["end"], "rule": "free", "amount": 0}
            for _, record in records if record["reason"] in ("gap", "powerLoss")]
    value = {
        "version": 1, "number": f"{contract_no.hex()}-1", "contractNo": contract_no, "computingPoolId": pool, "buyer": buyer,
        "deal": entry_hash(deal[0]), "offer": sm3(offer_tbs), "periodStart": records[0][1]["start"], "periodEnd": records[-1][1]["end"],
        "firstSeq": 0, "lastSeq": len(records) - 1, "lastRecord": last_name, "currency": tariff["currency"],
        "roundingRule": tariff["rounding"], "lines": found, "gaps": gaps, "rounding": whole - amount, "total": total}
    if total != whole:
        value["overCeiling"] = total - whole
    if quality(records):
        value["quality"] = quality(records)
    return encode("Bill", value), value


def decimal(value):
    """Money as a decimal string with at least two digits behind the point."""
    whole, rest = divmod(value, 10**8)
    rest = f"{rest:08d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{rest}"
