-- A node's calls in the order in which they came.
CREATE INDEX call_by_arrival ON call (node, id);

-- How many calls of a node are kept: the quota takes of the node that holds most.
ALTER TABLE call_node ADD COLUMN held bigint NOT NULL DEFAULT 0;
UPDATE call_node SET held = (SELECT count(*) FROM call WHERE call.node = call_node.id);

-- What the quota has taken of a cluster: how many calls, and when the youngest of them had come.
CREATE TABLE call_taken (
  cluster  text   NOT NULL PRIMARY KEY,
  calls    bigint NOT NULL,
  youngest bigint NOT NULL
);
