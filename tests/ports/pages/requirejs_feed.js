define(["channel"], function (Channel) {
  var subscribers = [];

  function publish(text) {
    subscribers.forEach(function (subscriber) { subscriber(text); });
  }

  function open(token) {
    return Channel(token).open({
      onopen: function () { publish("open"); },
      onmessage: function (message) { publish(JSON.parse(message.data).text); },
      onerror: function (error) { publish(error.code + " " + error.description); },
      onclose: function () { publish("closed"); },
    });
  }

  return {
    subscribe: function (subscriber) { subscribers.push(subscriber); },
    start: function () {
      var request = new XMLHttpRequest();
      request.open("POST", "/token");
      request.onload = function () {
        window.socket = open(JSON.parse(request.responseText).token);
      };
      request.send();
    },
  };
});
