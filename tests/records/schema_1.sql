-- A database as schema 1 wrote it: a finished study of four trials.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE ncntk_architectures ("key" TEXT PRIMARY KEY, json TEXT NOT NULL);
INSERT INTO "ncntk_architectures" VALUES('afe458c46f94c617a203fd61951e30ad','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 1, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "flatten", "inputs": [2]}, {"op": "dense", "trainable": true, "inputs": [3]}]}');
INSERT INTO "ncntk_architectures" VALUES('b45f71d6efc848f71a93db828b648d3b','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "flatten", "inputs": [2]}, {"op": "dense", "trainable": true, "inputs": [3]}]}');
INSERT INTO "ncntk_architectures" VALUES('55acd63050f001a04cf2945a8e419e6f','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 5, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "flatten", "inputs": [2]}, {"op": "dense", "trainable": true, "inputs": [3]}]}');
CREATE TABLE ncntk_schema (
	version INTEGER NOT NULL, 
	applied TEXT NOT NULL, 
	package TEXT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "ncntk_schema" VALUES(1,'2026-11-24T23:29:36+00:00','0.1.0');
CREATE TABLE ncntk_scores (study_id INTEGER NOT NULL, "key" TEXT NOT NULL, subset INTEGER NOT NULL, holdout INTEGER NOT NULL, measured TEXT NOT NULL, result TEXT NOT NULL, correct BLOB, PRIMARY KEY (study_id, "key", subset));
INSERT INTO "ncntk_scores" VALUES(1,'afe458c46f94c617a203fd61951e30ad',40,20,'holdout_accuracy','{"backend": "fake", "entry_layers": 1.0, "holdout": 20, "jitter": 0.0, "key": "afe458c46f94c617a203fd61951e30ad", "proxy_accuracy": 0.75, "ridge": 0.0, "seconds": 0.01, "standard_error": 0.1, "subset": 40, "values": {"holdout_accuracy": 0.75}}',X'FFFE00');
INSERT INTO "ncntk_scores" VALUES(1,'b45f71d6efc848f71a93db828b648d3b',40,20,'holdout_accuracy','{"backend": "fake", "entry_layers": 1.0, "holdout": 20, "jitter": 0.0, "key": "b45f71d6efc848f71a93db828b648d3b", "proxy_accuracy": 0.9, "ridge": 0.0, "seconds": 0.01, "standard_error": 0.1, "subset": 40, "values": {"holdout_accuracy": 0.9}}',X'FFFFC0');
CREATE TABLE ncntk_studies (study_id INTEGER PRIMARY KEY, created TEXT NOT NULL, target INTEGER NOT NULL, identity TEXT NOT NULL, config TEXT NOT NULL, sampler TEXT NOT NULL, versions TEXT NOT NULL, space_source TEXT NOT NULL, rate FLOAT, rate_backend TEXT);
INSERT INTO "ncntk_studies" VALUES(1,'2026-11-24T23:29:37+00:00',4,'{"score": ["holdout_accuracy"], "seed": 0, "space": "fake"}','{"backend": "auto", "data": "fake", "image_shape": [8, 8, 1], "max_trial_seconds": 300.0}','{"name": "random"}','{}','',1.0,'fake');
CREATE TABLE ncntk_trials (study_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, phase TEXT NOT NULL, kills INTEGER NOT NULL, number INTEGER, owner TEXT, host TEXT, pid INTEGER, started TEXT, heartbeat FLOAT, "key" TEXT, outcome TEXT, reason TEXT, duplicate_of INTEGER, parameters TEXT, params BIGINT, flops BIGINT, subset INTEGER, predicted_seconds FLOAT, seconds FLOAT, PRIMARY KEY (study_id, ordinal));
INSERT INTO "ncntk_trials" VALUES(1,0,'done',0,0,NULL,'elsewhere',1,NULL,1.7955629775449185371e+09,'afe458c46f94c617a203fd61951e30ad','COMPLETE',NULL,NULL,'{"kernel": 3}',41024,45056,40,1.0,1.96686999970552278682e-04);
INSERT INTO "ncntk_trials" VALUES(1,1,'done',0,1,NULL,'elsewhere',1,NULL,1.7955629777449831963e+09,'b45f71d6efc848f71a93db828b648d3b','COMPLETE',NULL,NULL,'{"kernel": 5}',41536,77824,40,1.0,1.40812999688932904973e-04);
INSERT INTO "ncntk_trials" VALUES(1,2,'done',0,2,NULL,'elsewhere',1,NULL,1.79556297779754281038e+09,'55acd63050f001a04cf2945a8e419e6f','PRUNED','cost: predicted 900 s, the limit is 300 s',NULL,'{"kernel": 5}',42560,143360,NULL,900.0,NULL);
INSERT INTO "ncntk_trials" VALUES(1,3,'done',0,3,NULL,'elsewhere',1,NULL,1.79556297787044572833e+09,'afe458c46f94c617a203fd61951e30ad','COMPLETE','duplicate of trial 0',0,'{"kernel": 3}',41024,45056,40,1.0,0.0);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'digits-plain-1');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'kernel',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(2,2,'kernel',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(3,3,'kernel',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(4,4,'kernel',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'ordinal','0');
INSERT INTO "trial_user_attributes" VALUES(2,1,'key','"afe458c46f94c617a203fd61951e30ad"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'ordinal','1');
INSERT INTO "trial_user_attributes" VALUES(4,2,'key','"b45f71d6efc848f71a93db828b648d3b"');
INSERT INTO "trial_user_attributes" VALUES(5,3,'ordinal','2');
INSERT INTO "trial_user_attributes" VALUES(6,3,'key','"55acd63050f001a04cf2945a8e419e6f"');
INSERT INTO "trial_user_attributes" VALUES(7,3,'reason','"cost: predicted 900 s, the limit is 300 s"');
INSERT INTO "trial_user_attributes" VALUES(8,4,'ordinal','3');
INSERT INTO "trial_user_attributes" VALUES(9,4,'key','"afe458c46f94c617a203fd61951e30ad"');
INSERT INTO "trial_user_attributes" VALUES(10,4,'reason','"duplicate of trial 0"');
INSERT INTO "trial_user_attributes" VALUES(11,4,'duplicate_of','0');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,0.75,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,0.9,'FINITE');
INSERT INTO "trial_values" VALUES(3,4,0,0.75,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-24 23:29:37.671028','2026-11-24 23:29:37.732992');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-24 23:29:37.761504','2026-11-24 23:29:37.788489');
INSERT INTO "trials" VALUES(3,2,1,'PRUNED','2026-11-24 23:29:37.809658','2026-11-24 23:29:37.858885');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-24 23:29:37.885342','2026-11-24 23:29:37.933715');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
