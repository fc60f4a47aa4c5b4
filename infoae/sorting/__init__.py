"""From a folder of pictures to labels, a page, a bundle and sorted folders."""
