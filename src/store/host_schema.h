// The tables of host.db, as vmhost-store(5) tells them. Each step was released as it is: a change
// is a further step.
#pragma once

#include "store/database.h"

namespace vmhost::store {

inline constexpr const char* host_schema_steps[] = {
    R"(CREATE TABLE machine (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        host TEXT NOT NULL,
        name TEXT NOT NULL,
        maker INTEGER NOT NULL,
        since INTEGER NOT NULL,
        last INTEGER NOT NULL,
        UNIQUE (host, name, maker));
    CREATE TABLE interface (
        machine INTEGER NOT NULL REFERENCES machine ON DELETE CASCADE,
        number INTEGER NOT NULL,
        lladdr TEXT,
        lladdr_given INTEGER NOT NULL,
        lladdr_since INTEGER NOT NULL,
        switch TEXT NOT NULL,
        ipv4 TEXT,
        ipv4_given INTEGER NOT NULL,
        ipv4_since INTEGER NOT NULL,
        PRIMARY KEY (machine, number)) WITHOUT ROWID;
    CREATE INDEX interface_lladdr ON interface (lladdr);
    CREATE INDEX interface_ipv4 ON interface (ipv4);
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        host TEXT NOT NULL,
        time INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        user TEXT NOT NULL,
        verb TEXT NOT NULL,
        vm TEXT NOT NULL,
        arguments TEXT NOT NULL,
        outcome TEXT NOT NULL);
    CREATE INDEX audit_uid ON audit (uid);)",
    R"(ALTER TABLE interface ADD COLUMN ipv6 TEXT;
    ALTER TABLE interface ADD COLUMN ipv6_given INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE interface ADD COLUMN ipv6_since INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX interface_ipv6 ON interface (ipv6);)",
    R"(CREATE TABLE installation (
        machine INTEGER PRIMARY KEY REFERENCES machine ON DELETE CASCADE,
        number INTEGER NOT NULL,
        upgrade INTEGER NOT NULL,
        armed INTEGER NOT NULL,
        sealed INTEGER,
        progress TEXT NOT NULL DEFAULT '');)",
    R"(CREATE TABLE host_key (
        machine INTEGER PRIMARY KEY REFERENCES machine ON DELETE CASCADE,
        installation INTEGER NOT NULL,
        public TEXT NOT NULL,
        private TEXT NOT NULL);)",
};

inline constexpr Schema host_schema{0x766d686f, host_schema_steps}; // "vmho"

} // namespace vmhost::store
