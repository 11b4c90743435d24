-- A ledger of format 1, as the gristmill that wrote this format left it. Never edit it: new formats get files of their own.
PRAGMA foreign_keys = OFF;
BEGIN TRANSACTION;
CREATE TABLE alias_moves (
    seq      BIGINT PRIMARY KEY NOT NULL,
    asset    TEXT NOT NULL,
    alias    TEXT NOT NULL,
    number   BIGINT,
    previous BIGINT,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    run      TEXT,
    moved_at BIGINT NOT NULL
);
INSERT INTO "alias_moves" VALUES(7,'models.m','champion',1,NULL,'user:ada','better',NULL,4);
CREATE TABLE aliases (
    asset    TEXT NOT NULL,
    alias    TEXT NOT NULL,
    number   BIGINT NOT NULL,
    previous BIGINT,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    run      TEXT,
    moved_at BIGINT NOT NULL,
    PRIMARY KEY (asset, alias),
    FOREIGN KEY (asset, number) REFERENCES versions (asset, number)
);
INSERT INTO "aliases" VALUES('models.m','champion',1,NULL,'user:ada','better',NULL,4);
CREATE TABLE audit (
    seq     BIGINT PRIMARY KEY NOT NULL,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    run     TEXT,
    detail  TEXT NOT NULL,
    hash    TEXT NOT NULL
);
INSERT INTO "audit" VALUES(1,1,'user:ada','run.submitted','flows.f','00000000000000000000000000000001','{"idempotency":"t","key":"sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b","reason":"asked","run":"00000000000000000000000000000001","stage":"flow"}','sha256:4814308696a1f86440e4ae3216506e703b7f0c2d4872be2482875d19ad1143fc');
INSERT INTO "audit" VALUES(2,2,'user:ada','run.started','flows.f','00000000000000000000000000000001','{"attempt":1,"reason":"asked","run":"00000000000000000000000000000001","stage":"flow","worker":"w"}','sha256:289df5871c57b1e6ac2a564963c28de0676683ffeb61ce85a496bab25612e531');
INSERT INTO "audit" VALUES(3,3,'user:ada','run.started','models.m','00000000000000000000000000000002','{"attempt":1,"inputs":["training_sets.m@1"],"key":"sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35","parent":"00000000000000000000000000000001","reason":"asked","run":"00000000000000000000000000000002","stage":"train","worker":"w"}','sha256:3104ca9ba86df56f40ca5ed0b2d2c29aee7a6d23efeceae5af494d8ae91380cf');
INSERT INTO "audit" VALUES(4,500,'user:ada','run.annotated','models.m','00000000000000000000000000000002','{"metrics":[["loss",1,0.5],["loss",2,"NaN"],["loss",0,"inf"],["auc",0,0.75]],"params":{"depth":"6"},"run":"00000000000000000000000000000002","tags":{"team":"a"}}','sha256:745e3cdb13257ec4615ef7ee935a21224b3841fd0d2ba0eca51d781911e083d7');
INSERT INTO "audit" VALUES(5,4,'user:ada','version.made','models.m@1','00000000000000000000000000000002','{"digest":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","meta":"sha256:6193c97585a0f731ce7b500bb69d2476816afb14c8d95ac8e6e865f680e9e438","place":{"digest":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","in":"blob"},"rows":7,"run":"00000000000000000000000000000002"}','sha256:5f29d632923d253a2ed282bcc9f6bc29595a575ac02663b3aabf56d6a0caeed0');
INSERT INTO "audit" VALUES(6,4,'user:ada','run.finished','models.m','00000000000000000000000000000002','{"checks":1,"outputs":["models.m@1"],"parent":"00000000000000000000000000000001","run":"00000000000000000000000000000002","stage":"train","status":"succeeded","summary":"done","verdict":"pass"}','sha256:0f08360ee66281498b5180ab2d02fb32b93320d93309e49caefa7700affa1fec');
INSERT INTO "audit" VALUES(7,4,'user:ada','alias.moved','models.m@champion',NULL,'{"actor":"user:ada","alias":"champion","asset":"models.m","from":null,"reason":"better","to":1}','sha256:12ae016e43a9f55db23bc31e07e725f5203ffac4797bb621e1982d74ce62ae73');
INSERT INTO "audit" VALUES(8,5,'user:ada','run.started','models.fraud','00000000000000000000000000000003','{"attempt":1,"key":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","reason":"asked","run":"00000000000000000000000000000003","stage":"train","worker":"w"}','sha256:5ed5811389b8a2e2e0112d783b090368ba27e7ee3a2d23768a64e1d94367a903');
INSERT INTO "audit" VALUES(9,500,'user:ada','run.annotated','models.fraud','00000000000000000000000000000003','{"metrics":[["auc",3,0.25]],"run":"00000000000000000000000000000003"}','sha256:67afe19f6aee6e849d65e5b5ac7147e35289be04237369f839fe0d3f84cb57f5');
INSERT INTO "audit" VALUES(10,6,'user:ada','run.started','models.m','00000000000000000000000000000004','{"attempt":1,"key":"sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a","reason":"asked","run":"00000000000000000000000000000004","stage":"train","worker":"w"}','sha256:b5e62d428ce86f67f78a4ebd34af06463d14b18bfbb284c49ebc0c39c0813841');
INSERT INTO "audit" VALUES(11,7,'user:ada','version.made','models.m@2','00000000000000000000000000000004','{"digest":"sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d","meta":"sha256:7b8de1c2be81d629aaac41de6be74133f8c90b9747098a3fc1a7adc9274cb35e","place":{"digest":"sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d","in":"blob"},"rows":7,"run":"00000000000000000000000000000004"}','sha256:38c894c72cc3740251aca4facc76657b2719dfe4d961ddbdc928678a9d7c3afd');
INSERT INTO "audit" VALUES(12,7,'user:ada','run.finished','models.m','00000000000000000000000000000004','{"outputs":["models.m@2"],"run":"00000000000000000000000000000004","stage":"train","status":"succeeded","summary":"done","verdict":"pass"}','sha256:5b361956b383792b99cf9fb6764066a75eacc44a3af14bfe24a35900ccf23e69');
INSERT INTO "audit" VALUES(13,8,'user:ada','run.submitted','models.m','00000000000000000000000000000005','{"key":"sha256:ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d","reason":"asked","run":"00000000000000000000000000000005","stage":"train"}','sha256:bf0aed026f27fa1091afc6ca40172f7d2eec42e2c76548b4546b9afcc771d0ca');
INSERT INTO "audit" VALUES(14,9,'user:ada','token.made','tokens.ci',NULL,'{"expires_at":null,"name":"ci","role":"viewer"}','sha256:4b5478b4d26a7df6e816624e7641aa0687c5104f6983d46b9ecb84f31bb5a63a');
CREATE TABLE gristmill_format (version BIGINT NOT NULL);
INSERT INTO "gristmill_format" VALUES(1);
CREATE TABLE run_checks (
    run       TEXT NOT NULL REFERENCES runs (id),
    position  BIGINT NOT NULL,
    condition TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    observed  TEXT NOT NULL,
    PRIMARY KEY (run, position)
);
INSERT INTO "run_checks" VALUES('00000000000000000000000000000002',0,'auc >= 0.7','pass','auc = 0.75');
CREATE TABLE run_inputs (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    asset    TEXT NOT NULL,
    number   BIGINT NOT NULL,
    PRIMARY KEY (run, position)
);
INSERT INTO "run_inputs" VALUES('00000000000000000000000000000002',0,'training_sets.m',1);
CREATE TABLE run_metrics (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    step  BIGINT NOT NULL,
    value DOUBLE PRECISION,
    at    BIGINT NOT NULL,
    PRIMARY KEY (run, name, step)
);
INSERT INTO "run_metrics" VALUES('00000000000000000000000000000002','loss',1,0.5,500);
INSERT INTO "run_metrics" VALUES('00000000000000000000000000000002','loss',2,NULL,500);
INSERT INTO "run_metrics" VALUES('00000000000000000000000000000002','loss',0,9.0e+999,500);
INSERT INTO "run_metrics" VALUES('00000000000000000000000000000002','auc',0,0.8,4);
INSERT INTO "run_metrics" VALUES('00000000000000000000000000000003','auc',3,0.25,500);
CREATE TABLE run_metrics_latest (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    step  BIGINT NOT NULL,
    value DOUBLE PRECISION,
    PRIMARY KEY (run, name)
);
INSERT INTO "run_metrics_latest" VALUES('00000000000000000000000000000002','loss',2,NULL);
INSERT INTO "run_metrics_latest" VALUES('00000000000000000000000000000002','auc',0,0.8);
INSERT INTO "run_metrics_latest" VALUES('00000000000000000000000000000003','auc',3,0.25);
CREATE TABLE run_outputs (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    asset    TEXT NOT NULL,
    number   BIGINT NOT NULL,
    PRIMARY KEY (run, position),
    FOREIGN KEY (asset, number) REFERENCES versions (asset, number)
);
INSERT INTO "run_outputs" VALUES('00000000000000000000000000000002',0,'models.m',1);
INSERT INTO "run_outputs" VALUES('00000000000000000000000000000004',0,'models.m',2);
CREATE TABLE run_params (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
);
INSERT INTO "run_params" VALUES('00000000000000000000000000000002','depth','6');
CREATE TABLE run_tags (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
);
INSERT INTO "run_tags" VALUES('00000000000000000000000000000002','team','a');
CREATE TABLE runs (
    id           TEXT PRIMARY KEY NOT NULL,
    seq          BIGINT NOT NULL UNIQUE,
    stage        TEXT NOT NULL,
    address      TEXT NOT NULL,
    spec         TEXT NOT NULL,
    work_key     TEXT NOT NULL,
    parent       TEXT,
    actor        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    idempotency  TEXT UNIQUE,
    status       TEXT NOT NULL,
    verdict      TEXT,
    skipped_for  TEXT,
    summary      TEXT NOT NULL,
    error        TEXT,
    attempt      BIGINT NOT NULL,
    cancel_asked BIGINT NOT NULL,
    submitted_at BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    started_at   BIGINT,
    ended_at     BIGINT,
    worker       TEXT,
    lease_until  BIGINT
);
INSERT INTO "runs" VALUES('00000000000000000000000000000001',1,'flow','flows.f','{"number":1}','sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b',NULL,'user:ada','asked','t','running',NULL,NULL,'',NULL,1,0,1,0,2,NULL,'w',90);
INSERT INTO "runs" VALUES('00000000000000000000000000000002',3,'train','models.m','{"number":2}','sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35','00000000000000000000000000000001','user:ada','asked',NULL,'succeeded','pass',NULL,'done',NULL,1,0,3,0,3,4,NULL,NULL);
INSERT INTO "runs" VALUES('00000000000000000000000000000003',8,'train','models.fraud','{"number":3}','sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce',NULL,'user:ada','asked',NULL,'running',NULL,NULL,'',NULL,1,0,5,0,5,NULL,'w',90);
INSERT INTO "runs" VALUES('00000000000000000000000000000004',10,'train','models.m','{"number":4}','sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a',NULL,'user:ada','asked',NULL,'succeeded','pass',NULL,'done',NULL,1,0,6,0,6,7,NULL,NULL);
INSERT INTO "runs" VALUES('00000000000000000000000000000005',13,'train','models.m','{"number":5}','sha256:ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d',NULL,'user:ada','asked',NULL,'queued',NULL,NULL,'',NULL,0,0,8,0,NULL,NULL,NULL,NULL);
CREATE TABLE tokens (
    name       TEXT PRIMARY KEY NOT NULL,
    hash       TEXT NOT NULL UNIQUE,
    role       TEXT NOT NULL,
    made_at    BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
INSERT INTO "tokens" VALUES('ci','sha256:1b158839f8aa339e89bb50b1603e90ec68e0fd5565fe10a7cb32729fddf7070a','viewer',9,NULL,NULL);
CREATE TABLE versions (
    asset     TEXT NOT NULL,
    number    BIGINT NOT NULL,
    digest    TEXT NOT NULL,
    place     TEXT NOT NULL,
    row_count BIGINT,
    meta      TEXT NOT NULL,
    run       TEXT NOT NULL REFERENCES runs (id),
    made_at   BIGINT NOT NULL,
    PRIMARY KEY (asset, number)
);
INSERT INTO "versions" VALUES('models.m',1,'sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb','{"in":"blob","digest":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}',7,'{"text":"a"}','00000000000000000000000000000002',4);
INSERT INTO "versions" VALUES('models.m',2,'sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d','{"in":"blob","digest":"sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"}',7,'{"text":"b"}','00000000000000000000000000000004',7);
CREATE INDEX runs_by_address ON runs (address, seq);
CREATE INDEX runs_by_stage   ON runs (stage, seq);
CREATE INDEX runs_by_status  ON runs (status, due_at, seq);
CREATE INDEX runs_by_parent  ON runs (parent, seq);
CREATE INDEX runs_by_key     ON runs (work_key, status, seq);
CREATE INDEX versions_by_run ON versions (run);
CREATE INDEX run_inputs_by_version ON run_inputs (asset, number);
CREATE INDEX run_outputs_by_version ON run_outputs (asset, number);
CREATE INDEX run_metrics_latest_by_value ON run_metrics_latest (name, value);
CREATE INDEX alias_moves_by_alias ON alias_moves (asset, alias, seq);
CREATE INDEX audit_by_subject ON audit (subject, seq);
CREATE INDEX audit_by_run     ON audit (run, seq);
COMMIT;
