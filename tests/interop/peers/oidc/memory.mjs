// The provider's memory, kept apart from the provider: sessions, grants and tokens outlive a change of its keys.

const now = () => Date.now() / 1000;

/** One per kind of thing (`Session`, `RefreshToken`, …), as oidc-provider's adapter interface asks. */
export class Memory {
  static kinds = new Map(); // kind → id → {payload, ends}

  constructor(kind) {
    if (!Memory.kinds.has(kind)) Memory.kinds.set(kind, new Map());
    this.things = Memory.kinds.get(kind);
  }

  async upsert(id, payload, seconds) {
    this.things.set(id, { payload, ends: seconds ? now() + seconds : Infinity });
  }

  async find(id) {
    const thing = this.things.get(id);
    return thing && thing.ends > now() ? thing.payload : undefined;
  }

  async findBy(key, value) {
    for (const [id, { payload }] of this.things) if (payload[key] === value) return this.find(id);
    return undefined;
  }

  async findByUid(uid) {
    return this.findBy('uid', uid);
  }

  async findByUserCode(userCode) {
    return this.findBy('userCode', userCode);
  }

  async consume(id) {
    const thing = this.things.get(id);
    if (thing) thing.payload.consumed = Math.floor(now());
  }

  async destroy(id) {
    this.things.delete(id);
  }

  async revokeByGrantId(grantId) {
    for (const things of Memory.kinds.values()) {
      for (const [id, { payload }] of things) if (payload.grantId === grantId) things.delete(id);
    }
  }
}
