-- Requests for elevated access that others must approve. `contents` is the exact text that approvals are over, `hash` its
-- SHA-256, `tag` the broker's own mark on it; `human` tells people apart, whatever account they use.
CREATE TABLE break_glass (
  id          bytea   NOT NULL PRIMARY KEY,
  state       smallint NOT NULL,
  provider    text    NOT NULL,
  issuer      text    NOT NULL,
  subject     text    NOT NULL,
  human       bytea   NOT NULL,
  cluster     text    NOT NULL,
  contents    text    NOT NULL,
  hash        bytea   NOT NULL,
  tag         bytea   NOT NULL,
  quorum      bigint NOT NULL,
  uses        bigint NOT NULL,
  life        bigint NOT NULL,
  waits_until bigint NOT NULL,
  good_until  bigint,
  used        bigint NOT NULL,
  jkt         text,
  closed_by   text,
  closed_at   bigint,
  comment     text,
  label       text,
  note        text,
  reviewed_by text,
  reviewed_at bigint
);
CREATE INDEX break_glass_by_state   ON break_glass (state, id);
CREATE INDEX break_glass_by_person  ON break_glass (provider, issuer, subject, state);
CREATE INDEX break_glass_by_cluster ON break_glass (cluster, id);
CREATE INDEX break_glass_waiting    ON break_glass (waits_until) WHERE state = 0;
CREATE INDEX break_glass_good       ON break_glass (good_until) WHERE state = 1;

-- One human approves one request once.
CREATE TABLE break_glass_approval (
  request  bytea   NOT NULL,
  human    bytea   NOT NULL,
  hash     bytea   NOT NULL,
  provider text    NOT NULL,
  issuer   text    NOT NULL,
  subject  text    NOT NULL,
  name     text    NOT NULL,
  "user"     text    NOT NULL,
  session  bytea   NOT NULL,
  comment  text,
  at       bigint NOT NULL,
  tag      bytea   NOT NULL,
  PRIMARY KEY (request, human)
);

-- Grants made under a request. One that led to no certificate was given back.
CREATE TABLE break_glass_use (
  grant_id bytea   NOT NULL PRIMARY KEY,
  request  bytea   NOT NULL,
  at       bigint NOT NULL,
  returned smallint NOT NULL
);
CREATE INDEX break_glass_use_by_request ON break_glass_use (request, at);
