// The door of http/: an HTTP/1.1 server on the loop, and what it answers to
// installers. A library: which process runs it, and who hands it sockets, is
// decided above.
#pragma once

#include "http/access_log.h"
#include "http/answer.h"
#include "http/answer_desk.h"
#include "http/listener.h"
#include "http/message.h"
#include "http/parser.h"
#include "http/server.h"
#include "http/site.h"
