-- A database as schema 2 wrote it: a finished study of six trials whose total and sampler were changed.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE ncntk_architectures ("key" TEXT PRIMARY KEY, json TEXT NOT NULL);
INSERT INTO "ncntk_architectures" VALUES('fc9055e3bc5a2844dbae082c207ba314','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 1, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "conv", "kernel": 1, "stride": 1, "trainable": true, "inputs": [2]}, {"op": "relu", "inputs": [3]}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [4]}, {"op": "relu", "inputs": [5]}, {"op": "global_avg_pool", "inputs": [6]}, {"op": "dense", "trainable": true, "inputs": [7]}]}');
INSERT INTO "ncntk_architectures" VALUES('b5c08282f6350b7f15dd8442e99b230f','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "conv", "kernel": 5, "stride": 1, "trainable": true, "inputs": [2]}, {"op": "relu", "inputs": [3]}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [4]}, {"op": "relu", "inputs": [5]}, {"op": "conv", "kernel": 5, "stride": 1, "trainable": true, "inputs": [6]}, {"op": "relu", "inputs": [7]}, {"op": "global_avg_pool", "inputs": [8]}, {"op": "dense", "trainable": true, "inputs": [9]}]}');
INSERT INTO "ncntk_architectures" VALUES('806017dbeee6ff31c55d5b58d4d01b73','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "conv", "kernel": 5, "stride": 1, "trainable": true, "inputs": [2]}, {"op": "relu", "inputs": [3]}, {"op": "conv", "kernel": 5, "stride": 1, "trainable": true, "inputs": [4]}, {"op": "relu", "inputs": [5]}, {"op": "flatten", "inputs": [6]}, {"op": "dense", "trainable": true, "inputs": [7]}]}');
INSERT INTO "ncntk_architectures" VALUES('bd9c82f6a68848870672a4d93c3fe596','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 1, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [2]}, {"op": "relu", "inputs": [3]}, {"op": "global_avg_pool", "inputs": [4]}, {"op": "dense", "trainable": true, "inputs": [5]}]}');
INSERT INTO "ncntk_architectures" VALUES('2a8379c5096a75673fad2ecc6c9ab1e9','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 5, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [2]}, {"op": "relu", "inputs": [3]}, {"op": "global_avg_pool", "inputs": [4]}, {"op": "dense", "trainable": true, "inputs": [5]}]}');
INSERT INTO "ncntk_architectures" VALUES('344805c91d93fbe66b071c243204c184','{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 1, "stride": 1, "trainable": true, "inputs": [0]}, {"op": "relu", "inputs": [1]}, {"op": "conv", "kernel": 5, "stride": 1, "trainable": true, "inputs": [2]}, {"op": "relu", "inputs": [3]}, {"op": "global_avg_pool", "inputs": [4]}, {"op": "dense", "trainable": true, "inputs": [5]}]}');
CREATE TABLE ncntk_changes (change_id INTEGER PRIMARY KEY, study_id INTEGER NOT NULL, finished INTEGER NOT NULL, changed TEXT NOT NULL, setting TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL);
INSERT INTO "ncntk_changes" VALUES(1,1,6,'2026-11-25T02:27:01+00:00','trials','1','6');
INSERT INTO "ncntk_changes" VALUES(2,1,6,'2026-11-25T02:27:01+00:00','sampler','{"name": "random"}','{"name": "tpe"}');
CREATE TABLE ncntk_schema (
	version INTEGER NOT NULL, 
	applied TEXT NOT NULL, 
	package TEXT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "ncntk_schema" VALUES(1,'2026-11-25T02:27:00+00:00','0.1.0');
INSERT INTO "ncntk_schema" VALUES(2,'2026-11-25T02:27:00+00:00','0.1.0');
CREATE TABLE ncntk_scores (study_id INTEGER NOT NULL, "key" TEXT NOT NULL, subset INTEGER NOT NULL, holdout INTEGER NOT NULL, measured TEXT NOT NULL, result TEXT NOT NULL, correct BLOB, PRIMARY KEY (study_id, "key", subset));
INSERT INTO "ncntk_scores" VALUES(1,'fc9055e3bc5a2844dbae082c207ba314',40,20,'holdout_accuracy','{"key": "fc9055e3bc5a2844dbae082c207ba314", "values": {"holdout_accuracy": 0.8, "flops": 2626176.0}, "standard_error": 0.1, "proxy_accuracy": 0.8, "jitter": 0.0, "ridge": 0.0, "subset": 40, "holdout": 20, "seconds": 0.01, "backend": "fake", "entry_layers": 1.0}',X'FFFF00');
INSERT INTO "ncntk_scores" VALUES(1,'bd9c82f6a68848870672a4d93c3fe596',40,20,'holdout_accuracy','{"key": "bd9c82f6a68848870672a4d93c3fe596", "values": {"holdout_accuracy": 0.8, "flops": 2364032.0}, "standard_error": 0.1, "proxy_accuracy": 0.8, "jitter": 0.0, "ridge": 0.0, "subset": 40, "holdout": 20, "seconds": 0.01, "backend": "fake", "entry_layers": 1.0}',X'FFFF00');
INSERT INTO "ncntk_scores" VALUES(1,'2a8379c5096a75673fad2ecc6c9ab1e9',40,20,'holdout_accuracy','{"key": "2a8379c5096a75673fad2ecc6c9ab1e9", "values": {"holdout_accuracy": 0.8, "flops": 2462336.0}, "standard_error": 0.1, "proxy_accuracy": 0.8, "jitter": 0.0, "ridge": 0.0, "subset": 40, "holdout": 20, "seconds": 0.01, "backend": "fake", "entry_layers": 1.0}',X'FFFF00');
INSERT INTO "ncntk_scores" VALUES(1,'344805c91d93fbe66b071c243204c184',40,20,'holdout_accuracy','{"key": "344805c91d93fbe66b071c243204c184", "values": {"holdout_accuracy": 0.7, "flops": 6558336.0}, "standard_error": 0.1, "proxy_accuracy": 0.7, "jitter": 0.0, "ridge": 0.0, "subset": 40, "holdout": 20, "seconds": 0.01, "backend": "fake", "entry_layers": 1.0}',X'FFFC00');
CREATE TABLE ncntk_studies (study_id INTEGER PRIMARY KEY, created TEXT NOT NULL, target INTEGER NOT NULL, identity TEXT NOT NULL, config TEXT NOT NULL, sampler TEXT NOT NULL, versions TEXT NOT NULL, space_source TEXT NOT NULL, rate FLOAT, rate_backend TEXT);
INSERT INTO "ncntk_studies" VALUES(1,'2026-11-25T02:27:00+00:00',6,'{"score": ["holdout_accuracy"], "seed": 0, "space": "fake"}','{"backend": "auto", "data": "fake", "image_shape": [8, 8, 1], "max_trial_seconds": 300.0}','{"name": "tpe"}','{}','',1.0,'fake');
CREATE TABLE ncntk_trials (study_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, phase TEXT NOT NULL, kills INTEGER NOT NULL, number INTEGER, owner TEXT, host TEXT, pid INTEGER, started TEXT, heartbeat FLOAT, "key" TEXT, outcome TEXT, reason TEXT, duplicate_of INTEGER, parameters TEXT, params BIGINT, flops BIGINT, subset INTEGER, predicted_seconds FLOAT, seconds FLOAT, PRIMARY KEY (study_id, ordinal));
INSERT INTO "ncntk_trials" VALUES(1,0,'done',0,0,NULL,'elsewhere',1,NULL,1.79557362080130815504e+09,'fc9055e3bc5a2844dbae082c207ba314','COMPLETE',NULL,NULL,'{"depth": 3, "head": "none", "kernel_0": 1, "kernel_1": 1, "kernel_2": 3}',41664,2626176,40,105.04704,1.77260999407735653221e-04);
INSERT INTO "ncntk_trials" VALUES(1,1,'done',0,1,NULL,'elsewhere',1,NULL,1.79557362098843407635e+09,'b5c08282f6350b7f15dd8442e99b230f','PRUNED','cost: predicted 620 s, the limit is 300 s',NULL,'{"depth": 4, "head": "global", "kernel_0": 3, "kernel_1": 5, "kernel_2": 3, "kernel_3": 5}',242880,15504000,NULL,620.16,NULL);
INSERT INTO "ncntk_trials" VALUES(1,2,'done',0,2,NULL,'elsewhere',1,NULL,1.79557362104553461072e+09,'806017dbeee6ff31c55d5b58d4d01b73','PRUNED','cost: predicted 527 s, the limit is 300 s',NULL,'{"depth": 3, "head": "flatten", "kernel_0": 3, "kernel_1": 5, "kernel_2": 5}',246336,13185024,NULL,527.40096,NULL);
INSERT INTO "ncntk_trials" VALUES(1,3,'done',0,3,NULL,'elsewhere',1,NULL,1795573621.09613,'bd9c82f6a68848870672a4d93c3fe596','COMPLETE',NULL,NULL,'{"depth": 2, "head": "none", "kernel_0": 1, "kernel_1": 3}',37568,2364032,40,94.56128,1.89324000530177727341e-04);
INSERT INTO "ncntk_trials" VALUES(1,4,'done',0,4,NULL,'elsewhere',1,NULL,1.79557362114763259886e+09,'2a8379c5096a75673fad2ecc6c9ab1e9','COMPLETE',NULL,NULL,'{"depth": 2, "head": "global", "kernel_0": 5, "kernel_1": 3}',39104,2462336,40,98.49344,1.13711999802035279572e-04);
INSERT INTO "ncntk_trials" VALUES(1,5,'done',0,5,NULL,'elsewhere',1,NULL,1.79557362119806551929e+09,'344805c91d93fbe66b071c243204c184','COMPLETE',NULL,NULL,'{"depth": 2, "head": "none", "kernel_0": 1, "kernel_1": 5}',103104,6558336,40,262.33344,1.15976999950362369418e-04);
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
INSERT INTO "trial_params" VALUES(1,1,'depth',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 4}}');
INSERT INTO "trial_params" VALUES(2,1,'kernel_0',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(3,1,'kernel_1',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(4,1,'kernel_2',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(5,1,'head',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["flatten", "global", "none"]}}');
INSERT INTO "trial_params" VALUES(6,2,'depth',4.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 4}}');
INSERT INTO "trial_params" VALUES(7,2,'kernel_0',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(8,2,'kernel_1',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(9,2,'kernel_2',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(10,2,'kernel_3',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(11,2,'head',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["flatten", "global", "none"]}}');
INSERT INTO "trial_params" VALUES(12,3,'depth',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 4}}');
INSERT INTO "trial_params" VALUES(13,3,'kernel_0',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(14,3,'kernel_1',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(15,3,'kernel_2',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(16,3,'head',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["flatten", "global", "none"]}}');
INSERT INTO "trial_params" VALUES(17,4,'depth',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 4}}');
INSERT INTO "trial_params" VALUES(18,4,'kernel_0',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(19,4,'kernel_1',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(20,4,'head',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["flatten", "global", "none"]}}');
INSERT INTO "trial_params" VALUES(21,5,'depth',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 4}}');
INSERT INTO "trial_params" VALUES(22,5,'kernel_0',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(23,5,'kernel_1',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(24,5,'head',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["flatten", "global", "none"]}}');
INSERT INTO "trial_params" VALUES(25,6,'depth',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 4}}');
INSERT INTO "trial_params" VALUES(26,6,'kernel_0',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(27,6,'kernel_1',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 3, 5]}}');
INSERT INTO "trial_params" VALUES(28,6,'head',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["flatten", "global", "none"]}}');
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
INSERT INTO "trial_user_attributes" VALUES(2,1,'key','"fc9055e3bc5a2844dbae082c207ba314"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'ordinal','1');
INSERT INTO "trial_user_attributes" VALUES(4,2,'key','"b5c08282f6350b7f15dd8442e99b230f"');
INSERT INTO "trial_user_attributes" VALUES(5,2,'reason','"cost: predicted 620 s, the limit is 300 s"');
INSERT INTO "trial_user_attributes" VALUES(6,3,'ordinal','2');
INSERT INTO "trial_user_attributes" VALUES(7,3,'key','"806017dbeee6ff31c55d5b58d4d01b73"');
INSERT INTO "trial_user_attributes" VALUES(8,3,'reason','"cost: predicted 527 s, the limit is 300 s"');
INSERT INTO "trial_user_attributes" VALUES(9,4,'ordinal','3');
INSERT INTO "trial_user_attributes" VALUES(10,4,'key','"bd9c82f6a68848870672a4d93c3fe596"');
INSERT INTO "trial_user_attributes" VALUES(11,5,'ordinal','4');
INSERT INTO "trial_user_attributes" VALUES(12,5,'key','"2a8379c5096a75673fad2ecc6c9ab1e9"');
INSERT INTO "trial_user_attributes" VALUES(13,6,'ordinal','5');
INSERT INTO "trial_user_attributes" VALUES(14,6,'key','"344805c91d93fbe66b071c243204c184"');
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
INSERT INTO "trial_values" VALUES(1,1,0,0.8,'FINITE');
INSERT INTO "trial_values" VALUES(2,4,0,0.8,'FINITE');
INSERT INTO "trial_values" VALUES(3,5,0,0.8,'FINITE');
INSERT INTO "trial_values" VALUES(4,6,0,0.7,'FINITE');
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
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-25 02:27:00.938773','2026-11-25 02:27:00.980453');
INSERT INTO "trials" VALUES(2,1,1,'PRUNED','2026-11-25 02:27:01.002914','2026-11-25 02:27:01.039567');
INSERT INTO "trials" VALUES(3,2,1,'PRUNED','2026-11-25 02:27:01.057329','2026-11-25 02:27:01.090545');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-25 02:27:01.107888','2026-11-25 02:27:01.141656');
INSERT INTO "trials" VALUES(5,4,1,'COMPLETE','2026-11-25 02:27:01.154897','2026-11-25 02:27:01.191397');
INSERT INTO "trials" VALUES(6,5,1,'COMPLETE','2026-11-25 02:27:01.206209','2026-11-25 02:27:01.233157');
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
