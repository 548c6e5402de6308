<?php
// What http_app.js is, for PHP's own server: php -S 127.0.0.1:$PUP_CLUSTER_PORT http_app.php
// It takes one request at a time, and closes each connection after its answer.

header("Content-Type: text/plain");

if ($_SERVER["REQUEST_URI"] === "/stream") {
    for ($left = 100; $left; $left--) {
        usleep(100000);
        echo "chunk\n";
        flush();
    }
    return;
}
if ($_SERVER["REQUEST_URI"] === "/slow") {
    usleep(300000);
}
$greeting = "hello from " . getenv("PUP_CLUSTER_INSTANCE") . "\n";
header("Content-Length: " . strlen($greeting));
echo $greeting;
