-- What wrk sends to an echo server: a response, so that what comes back is one. Only the
-- first of all has to be a request, because wrk checks it before it starts.
local message = "HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz"
local checked = false

request = function()
  if checked then
    return message
  end
  checked = true
  return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
end
