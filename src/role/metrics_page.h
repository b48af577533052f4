// /metrics, as the http role serves it on the listeners for it.
//
// The parent is asked for the text when somebody asks for the page, so that what is served is
// new; one question serves everybody who waits, and its answer everybody in the second after.
// However many ask, the parent gathers once a second at most.
//
// Loop thread of the role.
#pragma once

#include <functional>
#include <vector>

#include "http/http.h"
#include "ipc/messages.h"

namespace vmhost::role {

class MetricsPage {
public:
    // wanted sends the question to the parent.
    MetricsPage(Loop& loop, std::function<void()> wanted);

    http::Server& server() { return server_; }
    // A part of the parent's answer.
    void took(ipc::MetricsText text);

private:
    std::optional<http::Response> asked(const http::Request& request);

    Loop& loop_;
    std::function<void()> wanted_;
    std::vector<std::uint64_t> waiting_; // connections
    bool asking_ = false;
    std::string coming_; // the parts so far
    http::Response page_;
    std::optional<std::uint64_t> made_ms_; // of the page
    http::Server server_;
};

} // namespace vmhost::role
