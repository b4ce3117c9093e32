// The little of jQuery that the page calls, doing what jQuery does.
(function () {
  function Wrapped(elements) {
    this.elements = elements;
  }

  Wrapped.prototype = {
    each: function (callback) {
      this.elements.forEach(callback);
      return this;
    },
    ready: function (callback) {
      if (document.readyState !== "loading") callback();
      else document.addEventListener("DOMContentLoaded", function () { callback(); });
      return this;
    },
    append: function (child) {
      return this.each(function (element) {
        child.each(function (each) { element.appendChild(each); });
      });
    },
    text: function (text) {
      return this.each(function (element) { element.textContent = text; });
    },
    hide: function () {
      return this.each(function (element) { element.style.display = "none"; });
    },
  };

  function $(what) {
    if (typeof what !== "string") return new Wrapped([what]);
    var tag = /^<(\w+)>$/.exec(what);
    if (tag) return new Wrapped([document.createElement(tag[1])]);
    return new Wrapped(Array.prototype.slice.call(document.querySelectorAll(what)));
  }

  $.parseJSON = JSON.parse;

  $.ajax = function (options) {
    var request = new XMLHttpRequest();
    request.open(options.type, options.url);
    request.onload = function () {
      var text = request.responseText;
      options.success(options.dataType === "json" ? JSON.parse(text) : text);
    };
    request.send();
  };

  // A script of the page's own origin is fetched and evaluated as text, any other is loaded.
  $.getScript = function (url, callback) {
    var script = document.createElement("script");
    if (new URL(url, location.href).origin !== location.origin) {
      script.onload = function () { callback(); };
      script.src = url;
      document.head.appendChild(script);
      return;
    }
    $.ajax({
      type: "GET",
      url: url,
      success: function (text) {
        script.text = text;
        document.head.appendChild(script).parentNode.removeChild(script);
        callback();
      },
    });
  };

  window.jQuery = window.$ = $;
})();
