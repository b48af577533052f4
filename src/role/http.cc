// The http role: answer files for installers, files of directories, and metrics.
//
// User: _vmhost. Rights: the listening sockets the parent opened, and reading what is beneath the
// directories of the locations; before it has lost all others it hears nobody but the parent. It
// knows which files the installations of VMs have, but not what stands in them: that the parent
// says of one for the VM's own address, of a secret one once, when it has sealed it. Metrics have
// listeners, and limits, of their own: no guest comes near them unless it can reach their address.
#include <ctime>
#include <map>

#include "http/http.h"
#include "install/install.h"
#include "role/child.h"
#include "role/metrics_page.h"
#include "role/sets_sent.h"
#include "role/ssh_greeting.h"

namespace vmhost::role {

namespace {

http::Answer answer_of(ipc::HttpAnswer described) {
    http::Answer answer;
    answer.vm = std::move(described.vm);
    answer.address = described.address;
    answer.lladdr = described.mac;
    answer.host_name = std::move(described.host_name);
    for (auto& file : described.files)
        answer.files.push_back({std::move(file.name), file.once});
    answer.sealed = described.sealed;
    return answer;
}

http::Location location_of(ipc::HttpLocation described) {
    http::Location location;
    location.host = std::move(described.host);
    location.path = std::move(described.path);
    location.strip = described.strip;
    location.listing = described.listing;
    location.sets = described.sets;
    if (described.directory)
        location.directory = std::make_shared<const Fd>(std::move(*described.directory));
    return location;
}

// What one server has answered.
class Tally {
public:
    void add(const http::Access& access) {
        ++responses_[static_cast<std::uint16_t>(access.status)];
        bytes_ += access.body_bytes;
    }
    // responses: the first of the three counters of a server.
    void report(ipc::Counted responses, const http::Server& server,
                std::vector<ipc::ServiceCounter>& out) const {
        auto after = [responses](unsigned step) {
            return static_cast<ipc::Counted>(static_cast<unsigned>(responses) + step);
        };
        for (const auto& [status, count] : responses_)
            out.push_back({responses, status, count});
        out.push_back({after(1), 0, bytes_});
        out.push_back({after(2), 0, server.connections()});
    }

private:
    std::map<std::uint16_t, std::uint64_t> responses_; // by status: those that we send
    std::uint64_t bytes_ = 0;
};

http::AnswerOutcome outcome_of(const ipc::HttpClaimed& claimed) {
    return claimed.outcome < http::answer_outcomes
               ? static_cast<http::AnswerOutcome>(claimed.outcome)
               : http::AnswerOutcome::failed;
}

void report(const http::AnswerDesk& desk, std::vector<ipc::ServiceCounter>& out) {
    for (std::size_t i = 0; i < http::answer_outcomes; ++i)
        out.push_back(
            {ipc::Counted::http_answers, static_cast<std::uint16_t>(i), desk.counted()[i]});
}

// From here on files can be opened beneath these directories, and nowhere else.
Result<void> fence(std::vector<http::Location>& locations) {
    if (!locations.empty() && landlock_level() == 0) {
        // The descriptor of a directory would lead to everything around it.
        log::error("http", "no files of directories are served: this kernel has no landlock");
        for (auto& one : locations)
            one.directory.reset();
        return {};
    }
    std::vector<const Fd*> directories;
    for (const auto& one : locations)
        if (one.directory)
            directories.push_back(one.directory.get());
    return open_beneath(directories);
}

} // namespace

int run_http(const Identity& identity) {
    Loop loop;
    http::Site site;
    std::unique_ptr<Parent> parent;
    http::Server* asked = nullptr;
    Tally installers, readers;
    http::AccessLog access_log(loop);

    http::AnswerDesk desk(
        {.claim =
             [&](const http::AnswerDesk::Claim& claim) {
                 parent->send(ipc::HttpClaim{claim.number, claim.vm, claim.address, claim.file,
                                             claim.until_ms});
             },
         .answer = [&](std::uint64_t id,
                       const http::Response& response) { asked->answer(id, response); },
         .now_ms = [&] { return loop.now_ms(); }});
    auto handle = [&](const http::Request& request) {
        // Two guests may have one name, of two domains, and so of their site sets.
        if (desk.is_for_answer(request) && !site.has_site_set(request))
            return desk.ask(request);
        auto response = site.answer(request, ::time(nullptr));
        return response ? std::move(response) : http::error_response(404);
    };
    auto server = std::make_unique<http::Server>(loop, http::Options{}, handle);
    asked = server.get();
    SetsSent sets_sent([&](Ipv4 to, const std::string& set, std::uint64_t bytes) {
        parent->send(ipc::HttpSetSent{to, set, bytes});
    });
    Timer set_timer(loop, [&] {
        if (!sets_sent.tell_due(loop.now_ms()))
            set_timer.stop();
    });
    auto count_set = [&](const http::Access& access) {
        auto name = access.path.substr(access.path.rfind('/') + 1);
        const bool sent = access.status == 200 || access.status == 206;
        if (!sent || access.body_bytes == 0 || !install::is_set(name) ||
            !desk.is_guest(access.peer))
            return;
        sets_sent.sent(access.peer.ipv4(), name, access.body_bytes - access.told_bytes,
                       loop.now_ms());
        constexpr std::chrono::milliseconds interval(SetsSent::interval_ms);
        if (!set_timer.active())
            set_timer.start(interval, interval);
    };
    server->on_progress(count_set);
    server->on_request([&](const http::Access& access) {
        installers.add(access);
        count_set(access);
        access_log.add(access, ::time(nullptr));
    });
    auto page = std::make_unique<MetricsPage>(loop, [&] { parent->send(ipc::MetricsWanted{}); });
    page->server().on_request([&](const http::Access& access) { readers.add(access); });

    SshGreetings greetings(loop,
                           [&](std::uint64_t number) { parent->send(ipc::HttpSshSeen{number}); });

    // Of the next Begin.
    std::vector<http::Answer> described;
    std::vector<http::SiteSet> site_sets;
    std::vector<http::Location> locations;
    std::vector<ipc::HttpListener> listeners;
    bool fenced = false;
    auto begin = [&]() -> Result<void> {
        if (!fenced) {
            TRY(fence(locations));
            fenced = true;
            site.configure(std::exchange(locations, {}));
        }
        desk.configure(std::exchange(described, {}));
        site.configure_sets(std::exchange(site_sets, {}), ::time(nullptr));
        for (auto& listener : std::exchange(listeners, {}))
            TRY((listener.metrics ? page->server() : *server).listen(std::move(listener.socket)));
        parent->send(ipc::Ready{});
        return {};
    };
    auto message = [&](ipc::Frame frame) -> Result<void> {
        if (frame.type == ipc::Begin::type) {
            return begin();
        } else if (frame.type == ipc::HttpListener::type) {
            listeners.push_back(TRY(ipc::decode<ipc::HttpListener>(std::move(frame))));
        } else if (frame.type == ipc::HttpLocation::type) {
            locations.push_back(location_of(TRY(ipc::decode<ipc::HttpLocation>(std::move(frame)))));
        } else if (frame.type == ipc::HttpSiteSet::type) {
            auto set = TRY(ipc::decode<ipc::HttpSiteSet>(std::move(frame)));
            site_sets.push_back(
                {std::move(set.host_name), set.address, set.claimed, std::move(set.content)});
        } else if (frame.type == ipc::HttpAccessLog::type) {
            access_log.open(TRY(ipc::decode<ipc::HttpAccessLog>(std::move(frame))).file);
        } else if (frame.type == ipc::HttpClaimed::type) {
            auto claimed = TRY(ipc::decode<ipc::HttpClaimed>(std::move(frame)));
            desk.decided(claimed.number, outcome_of(claimed), std::move(claimed.content));
        } else if (frame.type == ipc::HttpSshWanted::type) {
            auto wanted = TRY(ipc::decode<ipc::HttpSshWanted>(std::move(frame)));
            greetings.wait_for(wanted.number, std::move(wanted.socket));
        } else if (frame.type == ipc::MetricsText::type) {
            page->took(TRY(ipc::decode<ipc::MetricsText>(std::move(frame))));
        } else if (frame.type == ipc::ServiceCount::type) {
            ipc::ServiceCounted counted;
            installers.report(ipc::Counted::http_responses, *server, counted.counters);
            readers.report(ipc::Counted::metrics_responses, page->server(), counted.counters);
            report(desk, counted.counters);
            parent->send(std::move(counted));
        } else {
            described.push_back(answer_of(TRY(ipc::decode<ipc::HttpAnswer>(std::move(frame)))));
        }
        return {};
    };
    return serve(loop, parent, identity, http_calls, message);
}

} // namespace vmhost::role
