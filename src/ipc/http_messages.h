// The messages between the parent and the http role; part of ipc/messages.h.
#pragma once

#include "ipc/codec.h"

namespace vmhost::ipc {

// One file of an installation, by the last component of its path.
struct HttpFile {
    std::string name;
    bool once = false; // it is not there any more when the installation is sealed
    template <class A>
    void fields(A& a) {
        a(name, once);
    }
};

// parent → http: which files of an installation there are, and whose. What stands in one is told
// when it is claimed.
struct HttpAnswer {
    static constexpr std::uint16_t type = 81;
    std::string vm;
    Ipv4 address;
    Mac mac;
    std::string host_name;
    std::vector<HttpFile> files;
    bool sealed = false;
    template <class A>
    void fields(A& a) {
        a(vm, address, mac, host_name, files, sealed);
    }
};

// http → parent: who has this address asks for this file of the VM's installation; HttpClaimed
// answers.
struct HttpClaim {
    static constexpr std::uint16_t type = 82;
    std::uint64_t number = 0;
    std::string vm;
    Ipv4 address;
    std::string file;           // a name that HttpAnswer gave
    std::uint64_t until_ms = 0; // of CLOCK_MONOTONIC: nobody waits for it any more
    template <class A>
    void fields(A& a) {
        a(number, vm, address, file, until_ms);
    }
};
// parent → http: served, this is its content, and one that is given out once is sealed by now; or
// why not.
struct HttpClaimed {
    static constexpr std::uint16_t type = 87;
    std::uint64_t number = 0;
    std::uint8_t outcome = 0; // http::AnswerOutcome
    std::string content;
    template <class A>
    void fields(A& a) {
        a(number, outcome, content);
    }
};

struct HttpListener {
    static constexpr std::uint16_t type = 80;
    Fd socket;
    bool metrics = false; // for these alone, else for answer files alone
    template <class A>
    void fields(A& a) {
        a(socket, metrics);
    }
};

// parent → http: files that it serves besides, in the order in which they are tried. The
// directories before the first Begin are all that it can ever open files of.
struct HttpLocation {
    static constexpr std::uint16_t type = 85;
    std::optional<Fd> directory; // of open(2) with O_PATH; none: it is not there now
    std::string path, host;      // patterns
    std::uint32_t strip = 0;     // components
    bool listing = false;
    bool sets = false; // releases are in it, and site sets are served beside theirs
    template <class A>
    void fields(A& a) {
        a(directory, path, host, strip, listing, sets);
    }
};

// parent → http: an archive that is served beside the sets.
struct HttpSiteSet {
    static constexpr std::uint16_t type = 91;
    std::string host_name; // siteVV-HOST.tgz, for the address alone; empty: siteVV.tgz, for all
    std::optional<Ipv4> address;
    bool claimed = false; // it is listed; what is in it is told when it is claimed
    std::string content;
    template <class A>
    void fields(A& a) {
        a(host_name, address, claimed, content);
    }
};

// parent → http: where requests of all but metrics are written down, opened to append.
struct HttpAccessLog {
    static constexpr std::uint16_t type = 86;
    Fd file;
    template <class A>
    void fields(A& a) {
        a(file);
    }
};

// http → parent: who has the address was sent so many bytes of a set of OpenBSD's.
struct HttpSetSent {
    static constexpr std::uint16_t type = 88;
    Ipv4 address;
    std::string set;
    std::uint64_t bytes = 0;
    template <class A>
    void fields(A& a) {
        a(address, set, bytes);
    }
};

// parent → http: somebody may say "SSH-" on this connection, which is being made. HttpSshSeen
// answers when it does.
struct HttpSshWanted {
    static constexpr std::uint16_t type = 89;
    std::uint64_t number = 0;
    Fd socket;
    template <class A>
    void fields(A& a) {
        a(number, socket);
    }
};
struct HttpSshSeen {
    static constexpr std::uint16_t type = 90;
    std::uint64_t number = 0;
    template <class A>
    void fields(A& a) {
        a(number);
    }
};

} // namespace vmhost::ipc
